"""How many processes a machine has room for."""

from __future__ import annotations

import os

from cnntrain import cgroup


def as_many_as_cores() -> int:
    """How many processes of one thread this machine has room for."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(there, cgroup.cores())))
