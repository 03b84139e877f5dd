"""Images whole on the device, gathered into batches by index.

Shapes: images are (batch, channels, height, width), labels (batch,).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cnntrain.data.preprocess import constant, to_unit

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


@dataclass(frozen=True, eq=False)
class Shifted(Resident):
    """The book's expanded training set: each image as it is and moved by one pixel up, down, left and right.

    `pixels` are padded by one black pixel on every side; the copies are windows of them, made when
    they are gathered. Index i is image i % n, moved by SHIFTS[i // n].
    """

    SHIFTS = ((1, 1), (2, 1), (0, 1), (1, 2), (1, 0))

    @classmethod
    def of(cls, images: Images, preprocessing: Preprocessing, device: torch.device) -> Shifted:
        """Move a split to the device with a black border."""
        plain = Resident.of(images, preprocessing, device)
        return cls(functional.pad(plain.pixels, [1, 1, 1, 1]), plain.labels, preprocessing)

    def __len__(self) -> int:
        return len(self.SHIFTS) * len(self.labels)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images in 0..1, not yet normalized, and labels."""
        height, width = self.preprocessing.shape[1:]
        windows = self.pixels.unfold(2, height, 1).unfold(3, width, 1)
        image = indices % len(self.labels)
        down, right = constant(self.SHIFTS, indices.device)[indices // len(self.labels)].unbind(1)
        return to_unit(windows[image, :, down, right]), self.labels.index_select(0, image)


def derived_seed(seed: int, purpose: str) -> int:
    """A seed of 63 bits for one purpose, so that no two purposes share a stream of random numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8]) >> 1


def epoch_order(count: int, shuffle: str, seed: int, epoch: int) -> Tensor:
    """Indices of all training images in the order of one epoch; a function of seed and epoch alone."""
    if shuffle == "never":
        return torch.arange(count)
    # The book shuffles its expanded set once, when it is made, and never again.
    when = 0 if shuffle == "once" else epoch
    generator = torch.Generator().manual_seed(derived_seed(seed, f"order/{when}"))
    return torch.randperm(count, generator=generator)
