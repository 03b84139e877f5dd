"""Faults: what must not be lost, and nobody let in; `python -m tests.faults.soak --minutes N` is the long form."""

import os

# Before anything imports torch: all processes then compute with one thread, and so to the same bits.
os.environ.setdefault("OMP_NUM_THREADS", "1")
