"""The classes that are taken for each other most often, for where there is no room for all counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Of more classes, counts are too many to be looked at.
READABLE = 26
LISTED = 20


def confusions(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[tuple[str, str, int]]:
    """(true class, prediction, images) of the most frequent mistakes; a row of the matrix is of a true class."""
    wrong = np.array(matrix)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:LISTED]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(classes[i], classes[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]]
