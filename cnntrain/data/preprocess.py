"""From stored pixels to what a network takes; one object for training, evaluation and prediction.

Shapes: images are (batch, channels, height, width).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnntrain.data.constant import constant
from cnntrain.errors import DataError
from cnntrain.layout import layout

if TYPE_CHECKING:
    from torch import Tensor

    from cnntrain.data.images import Images


# No image has so many rows, columns or channels.
SIDE = 2**16


@dataclass(frozen=True)
class Preprocessing:
    """The shape of an image (channels, height, width), and its channels' mean and deviation in 0..1."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Images, normalize: bool) -> Preprocessing:
        """What the training images ask for; without `normalize`, pixels stay in 0..1."""
        channels, height, width = images.pixels.shape[1:]
        if max(channels, height, width) >= SIDE:
            raise DataError(f"images of {height}x{width}x{channels} are refused; each must be below {SIDE:,}")
        if not normalize:
            return cls((channels, height, width), (0.0,) * channels, (1.0,) * channels)
        scale = 255.0 if images.pixels.dtype == np.uint8 else 1.0
        count = len(images) * height * width
        mean = sum(chunk.sum((0, 2, 3), np.float64) for chunk in images.chunks()) / count
        around = mean[:, None, None]
        std = np.sqrt(sum(((chunk - around) ** 2).sum((0, 2, 3)) for chunk in images.chunks()) / count) / scale
        mean = mean / scale
        # A channel without any variation can't be divided by it.
        std = np.where(std > 0, std, 1.0)
        return cls((channels, height, width), tuple(mean.tolist()), tuple(std.tolist()))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`; raises `ValueError` for what that never gives."""
        shape, mean, std = (tuple(values.get(name, ())) for name in ("shape", "mean", "std"))
        are_sides = len(shape) == 3 and all(type(side) is int and 0 < side < SIDE for side in shape)
        are_numbers = all(isinstance(value, float) and math.isfinite(value) for value in (*mean, *std))
        if not (are_sides and are_numbers and len(mean) == len(std) == shape[0] and all(std)):
            raise ValueError("its preprocessing is not one of images")
        return cls(shape, mean, std)

    @property
    def normalizes(self) -> bool:
        """Whether it does anything to pixels."""
        return any(self.mean) or set(self.std) != {1.0}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {key: list(value) for key, value in asdict(self).items()}

    def normalize(self, images: Tensor) -> Tensor:
        """Images in 0..1 to mean 0 and deviation 1 where the config asks for it, as the network takes them."""
        if self.normalizes:
            mean, std = constant((self.mean, self.std), images.device).view(2, 1, -1, 1, 1)
            images = (images - mean) / std
        return channels_last(images) if layout(images.device) is torch.channels_last else images.contiguous()


def channels_last(images: Tensor) -> Tensor:
    """The same images with the channels of a pixel side by side in memory.

    A single channel lies so already, but torch recognizes it by its strides alone.
    """
    if images.shape[1] == 1:
        return images.reshape(*images.shape[::2], images.shape[3], 1).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 pixels in 0..255, or floats in 0..1, to floats in 0..1."""
    return pixels.to(torch.float32).mul_(1 / 255) if pixels.dtype == torch.uint8 else pixels
