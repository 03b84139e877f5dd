"""Images of one shape to another that a network takes.

Shapes: images are (batch, channels, height, width).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cnntrain.data.preprocess import to_unit

# Grey, RGB, RGBA.
CHANNELS = {1, 3, 4}


def converted(pixels: Any, shape: tuple[int, int, int]) -> Any:
    """Pixels with other channels and another size: grey by ITU-R 601 weights, size by antialiased bilinear."""
    parts = []
    for chunk in torch.split(torch.from_numpy(pixels[:]), 1000):
        images = to_unit(chunk)
        if images.shape[1] != shape[0]:
            images = _in_channels(images, shape[0])
        parts.append(functional.interpolate(images, shape[1:], mode="bilinear", antialias=True).clamp(0, 1))
    return torch.cat(parts).numpy()


def _in_channels(images: Tensor, count: int) -> Tensor:
    """Grey, RGB or RGBA images as one of the others; what is transparent lies on black."""
    if images.shape[1] == 4:
        images = images[:, :3] * images[:, 3:]
    if count == 1 or images.shape[1] != 3:
        images = _grey(images).expand(-1, min(count, 3), -1, -1)
    return torch.cat([images, torch.ones_like(images[:, :1])], 1) if count == 4 else images


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] < 3:
        return images[:, :1]
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images[:, :3] * weights).sum(1, keepdim=True)
