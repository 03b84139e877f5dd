"""The images that are taken for another class than theirs, as data and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnntrain.data.images import Images
from cnntrain.data.preprocess import to_unit
from cnntrain.reports.pictures import grid


def mistakes(
    classes: Sequence[str], images: Images, predicted: NDArray[np.int64], probability: NDArray[np.float32] | None = None
) -> list[dict[str, Any]]:
    """Each image of which another class is `predicted`: its place from 0, its path if it is a file, and both classes.

    `probability` in 0..1, by image, is how sure the prediction was.
    """
    found = []
    for index in np.flatnonzero(predicted != images.labels).tolist():
        mistake = {"index": index, "class": classes[images.labels[index]], "predicted": classes[predicted[index]]}
        if probability is not None:
            mistake["probability"] = float(probability[index])
        if images.paths is not None:
            mistake["path"] = images.paths[index]
        found.append(mistake)
    return found


def likeliest(logits: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(class, probability in 0..1), by image, of what a network takes it for."""
    probability, predicted = logits.softmax(1).max(1)
    return predicted.cpu().numpy(), probability.cpu().numpy()


def drawn(found: Sequence[Mapping[str, Any]], images: Images, columns: int) -> bytes:
    """A PNG of some mistakes, with truth, prediction, and probability where it is known, below each."""
    captions = [f"{one['class']}\npredicted {one['predicted']}" for one in found]
    if "probability" in found[0]:
        captions = [f"{text}\n{100 * one['probability']:.1f} %" for text, one in zip(captions, found, strict=True)]
    pixels = images.pixels[np.array([one["index"] for one in found])]
    return grid(to_unit(torch.from_numpy(pixels)).numpy(), columns, captions)
