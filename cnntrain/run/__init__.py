"""The run directory: all that a run leaves is in it."""
