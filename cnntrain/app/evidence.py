"""Which parts of an image speak for the class that a network takes it for, and which for the true one.

Occlusion sensitivity, after Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014,
section 4.2: a square that covers a part of the image is moved over it, and the network is asked each time.

Shapes: an image is (channels, height, width), its map (height, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch

from cnntrain.app.display import Display
from cnntrain.app.model import Model
from cnntrain.data.images import Images
from cnntrain.data.preprocess import to_unit
from cnntrain.reports.pictures import explained

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnntrain.data.images import Array

COLUMNS = 3
# The square's side as a part of the image's longer one; each time it moves by half of that.
SIDE = 0.18


def evidence(model: Model, image: Array, predicted: int, truth: int) -> NDArray[np.float64]:
    """How much each pixel speaks for `predicted` against `truth`, in nats; below 0 for `truth`.

    That is by how much the logarithm of p(predicted) / p(truth) falls where the pixel is covered with the mean colour
    of the image: the mean over all squares that cover it.
    """
    places = squares(*image.shape[1:])
    asked = image[None].repeat(1 + len(places), 0)
    for covered, (rows, columns) in zip(asked[1:], places, strict=True):
        covered[:, rows, columns] = image.mean((1, 2), keepdims=True)
    logits = model.logits(Images(asked, np.zeros(len(asked), np.int64)))
    whole, *odds = (logits[:, predicted] - logits[:, truth]).tolist()
    total, count = np.zeros((2, *image.shape[1:]))
    for (rows, columns), without in zip(places, odds, strict=True):
        total[rows, columns] += whole - without
        count[rows, columns] += 1
    return np.asarray(total / count)


def drawn(
    model: Model, images: Array, pairs: Sequence[tuple[str, str]], captions: Sequence[str], display: Display
) -> bytes:
    """A PNG of `images` (count, channels, height, width), each beside what in it speaks for which of two classes."""
    maps = []
    for done, (image, pair) in enumerate(zip(images, pairs, strict=True)):
        display.progress(done, len(images), "images explained")
        maps.append(evidence(model, image, *map(model.classes.index, pair)))
    return explained(to_unit(torch.from_numpy(images)).numpy(), np.stack(maps), COLUMNS, captions)


def squares(height: int, width: int) -> list[tuple[slice, slice]]:
    """Rows and columns of squares that together cover all of an image, each pixel at least once."""
    side = max(1, round(SIDE * max(height, width)))
    return list(product(_parts(height, side), _parts(width, side)))


def _parts(length: int, side: int) -> list[slice]:
    last = max(0, length - side)
    return [slice(first, first + side) for first in (*range(0, last, max(1, side // 2)), last)]
