"""The run directory: the only place that is written to."""
