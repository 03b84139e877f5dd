"""The images that are taken for another class than theirs, as data and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnntrain.data.images import Images
from cnntrain.data.preprocess import to_unit
from cnntrain.reports.pictures import grid
from cnntrain.text import BELOW, shortened

if TYPE_CHECKING:
    from cnntrain.data.images import Array


def mistakes(
    classes: Sequence[str], images: Images, predicted: NDArray[np.int64], probability: NDArray[np.floating[Any]]
) -> list[dict[str, Any]]:
    """Each image of which another class is `predicted`: its place from 0, its path if it is a file, and both classes.

    `probability` in 0..1, by image, is how sure the prediction was.
    """
    found = []
    for index in np.flatnonzero(predicted != images.labels).tolist():
        names = {"class": classes[images.labels[index]], "predicted": classes[predicted[index]]}
        mistake = {"index": index, **names, "probability": float(probability[index])}
        if images.paths is not None:
            mistake["path"] = images.paths[index]
        found.append(mistake)
    return found


def likeliest(logits: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(class, probability in 0..1), by image, of what a network takes it for."""
    predicted = logits.argmax(1)
    # Where logits are not finite, or too close for probabilities, the largest of these is of any class.
    probability = logits.softmax(1).gather(1, predicted[:, None])[:, 0]
    return predicted.cpu().numpy(), probability.cpu().numpy()


def surest(found: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many mistakes at most, those of which the network was surest first."""
    return sorted(found, key=lambda one: -one["probability"])[:count]


def drawn(found: Sequence[Mapping[str, Any]], images: Images, columns: int) -> bytes:
    """A PNG of some mistakes, with truth, prediction and its probability below each."""
    captions = [f"{caption(one)}\n{100 * one['probability']:.1f} %" for one in found]
    return grid(to_unit(torch.from_numpy(pixels_of(found, images))).numpy(), columns, captions)


def caption(one: Mapping[str, Any]) -> str:
    """Truth and prediction, in two short lines."""
    return f"{shortened(one['class'], BELOW)}\npredicted {shortened(one['predicted'], BELOW)}"


def pixels_of(found: Sequence[Mapping[str, Any]], images: Images) -> Array:
    """Their images, as they are stored."""
    return images.pixels[np.array([one["index"] for one in found])]
