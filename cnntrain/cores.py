"""How many processes a machine has room for."""

from __future__ import annotations

import os


def as_many_as_cores() -> int:
    """How many processes of one thread this machine has room for."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
