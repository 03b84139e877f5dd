"""Training and evaluation; no files, no printing."""
