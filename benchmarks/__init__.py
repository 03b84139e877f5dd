"""How fast training is, and how fast it is elsewhere; run with `python -m benchmarks.run`."""
