"""Runs of one config, one for each seed: in several processes, or taking turns on a GPU."""
