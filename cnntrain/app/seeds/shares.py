"""Runs divided among processes so that all of these end together.

Five runs in two processes take the time of three where each run stays in one process, and of two and a half where the
odd one is begun in one and ended in the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Share:
    """Work on one run, from where it is until so much of it is done; 1 is all of it."""

    seed: int
    until: Fraction


def divided(seeds: Sequence[int], processes: int) -> list[list[Share]]:
    """What each process does, in this order, if all runs take as long: the wrap-around rule of McNaughton (1959).

    A run that begins in one process and ends in another is its last work in this one and its first in that one,
    so that it is never in both at once.
    """
    length = max(Fraction(1), Fraction(len(seeds), processes))
    found = []
    for process in range(processes):
        begin, end = process * length, min((process + 1) * length, Fraction(len(seeds)))
        # In the line of all runs, the run at `index` reaches from there to the next one's.
        there = range(math.floor(begin), math.ceil(end))
        found.append([Share(seeds[index], index + 1 - max(begin, Fraction(index))) for index in there])
    return found
