"""Augmentation on the fly: batched, on the device, a transform of its own for each image.

An augmentation maps images in 0..1 (batch, channels, height, width) to the same shape, with
random numbers from torch's global generator, whose state a checkpoint holds.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cnntrain.registry import augmentations
from cnntrain.strict import PositiveInt

if TYPE_CHECKING:
    from torch import Tensor

Augmentation = Callable[["Tensor"], "Tensor"]


@augmentations.register("shift")
def shift(pixels: PositiveInt = 1) -> Augmentation:
    """Move each image by up to `pixels` whole pixels in both directions; what comes in is black."""

    def apply(images: "Tensor") -> "Tensor":
        import torch
        from torch.nn import functional

        count, channels, height, width = images.shape
        padded = functional.pad(images, [pixels] * 4)
        down, right = torch.randint(0, 2 * pixels + 1, (2, count, 1), device=images.device)
        rows = (torch.arange(height, device=images.device) + down).view(count, 1, height, 1)
        columns = (torch.arange(width, device=images.device) + right).view(count, 1, 1, width)
        image = torch.arange(count, device=images.device).view(count, 1, 1, 1)
        channel = torch.arange(channels, device=images.device).view(1, channels, 1, 1)
        return padded[image, channel, rows, columns]

    return apply


@augmentations.register("flip")
def flip() -> Augmentation:
    """Mirror each image left to right with probability 1/2."""

    def apply(images: "Tensor") -> "Tensor":
        import torch

        mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        return torch.where(mirrored, images.flip(3), images)

    return apply
