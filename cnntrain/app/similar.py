"""Which training images are most like an image in a network's view: what it has learned its answer from.

Papernot and McDaniel, "Deep k-Nearest Neighbors", 2018, with the cosine as the measure, and of the layers the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from cnntrain.app.display import Display
from cnntrain.app.model import Model
from cnntrain.data.images import Images

if TYPE_CHECKING:
    from torch import Tensor, nn

# Of so many training images the features are there at once.
PIECE = 2_000


def most_similar(model: Model, images: Images, among: Images, count: int, display: Display) -> list[list[int]]:
    """For each image the indices of the `count` images `among` others that are most like it, the likest first.

    Alike are two images between whose features, what the last layer with weights is given, the angle is small.
    """
    asked = _features(model, images)
    nearness, found = torch.empty(len(images), 0), torch.empty(len(images), 0, dtype=torch.int64)
    for start in range(0, len(among), PIECE):
        display.progress(start, len(among), "training images compared")
        piece = np.arange(start, min(start + PIECE, len(among)))
        near = asked @ _features(model, among.take(piece)).T
        nearness = torch.cat([nearness, near], 1)
        found = torch.cat([found, torch.from_numpy(piece).expand(len(images), -1)], 1)
        nearness, order = nearness.topk(min(count, nearness.shape[1]), dim=1)
        found = found.gather(1, order)
    display.progress(len(among), len(among), "training images compared")
    return found.tolist()


def _features(model: Model, images: Images) -> Tensor:
    given: list[Tensor] = []

    def note(layer: nn.Module, inputs: Any) -> None:
        given.append(functional.normalize(inputs[0].flatten(1).float(), dim=1).cpu())

    layers = list(model.network.children())
    last = [layer for layer in layers if any(True for _ in layer.parameters())] or layers
    hook = last[-1].register_forward_pre_hook(note)
    try:
        model.logits(images)
    finally:
        hook.remove()
    # Before them a black image may have shown how much memory the layers take.
    return torch.cat(given)[-len(images) :]
