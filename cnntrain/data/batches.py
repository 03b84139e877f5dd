"""Images whole on the device, gathered into batches by index.

Shapes: images are (batch, channels, height, width), labels (batch,).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cnntrain.data.preprocess import to_unit

if TYPE_CHECKING:
    from torch import Tensor

    from cnntrain.data.images import Images
    from cnntrain.data.preprocess import Preprocessing


@dataclass(frozen=True, eq=False)
class Resident:
    """One split on the device: stored pixels and labels, and how to preprocess them."""

    pixels: Tensor
    labels: Tensor
    preprocessing: Preprocessing

    @classmethod
    def of(cls, images: Images, preprocessing: Preprocessing, device: torch.device) -> Resident:
        """Move a split to the device as it is stored."""
        pixels = torch.from_numpy(images.pixels).to(device)
        return cls(pixels, torch.from_numpy(images.labels).to(device), preprocessing)

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images in 0..1, not yet normalized, and labels."""
        return to_unit(self.pixels.index_select(0, indices)), self.labels.index_select(0, indices)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in their order, ready for the network."""
        for pixels, labels in zip(torch.split(self.pixels, size), torch.split(self.labels, size), strict=True):
            yield self.preprocessing.normalize(to_unit(pixels)), labels


def derived_seed(seed: int, purpose: str) -> int:
    """A seed of 63 bits for one purpose, so that no two purposes share a stream of random numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8]) >> 1


def epoch_order(count: int, shuffle: str, seed: int, epoch: int) -> Tensor:
    """Indices of all training images in the order of one epoch; a function of seed and epoch alone."""
    if shuffle == "never":
        return torch.arange(count)
    generator = torch.Generator().manual_seed(derived_seed(seed, f"order/{epoch}"))
    return torch.randperm(count, generator=generator)
