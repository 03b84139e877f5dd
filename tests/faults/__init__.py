"""Faults: what must not be lost, and nobody let in; `python -m tests.faults.soak --minutes N` is the long form."""
