"""The images that are taken for another class than theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnntrain.data.images import Images


def mistakes(
    classes: Sequence[str], images: Images, said: NDArray[np.int64], probability: NDArray[np.float32] | None = None
) -> list[dict[str, Any]]:
    """Each image of which another class is `said`: its place from 0, its path where it is a file, and both classes.

    `probability` in 0..1, by image, is how sure whoever said so was.
    """
    found = []
    for index in np.flatnonzero(said != images.labels).tolist():
        mistake = {"index": index, "class": classes[images.labels[index]], "said": classes[said[index]]}
        if probability is not None:
            mistake["probability"] = float(probability[index])
        if images.paths is not None:
            mistake["path"] = images.paths[index]
        found.append(mistake)
    return found
