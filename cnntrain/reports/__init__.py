"""Figures to text, tables and pictures."""
