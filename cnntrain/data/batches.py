"""Images gathered into batches by index: whole on the device, or streamed to it from a disk.

Shapes: images are (batch, channels, height, width), labels (batch,).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cnntrain.data.constant import constant
from cnntrain.data.prefetch import Ahead, memory_of
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
        pixels = torch.from_numpy(images.pixels[:]).to(device)
        return cls(pixels, torch.from_numpy(images.labels).to(device), preprocessing)

    @classmethod
    def black(cls, count: int, preprocessing: Preprocessing, device: torch.device) -> Resident:
        """So many black images of the first class."""
        pixels = torch.zeros((count, *preprocessing.shape), dtype=torch.uint8, device=device)
        return cls(pixels, torch.zeros(count, dtype=torch.int64, device=device), preprocessing)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def all_labels(self) -> Tensor:
        """A label for each index."""
        return self.labels

    @property
    def is_streamed(self) -> bool:
        """Whether every batch is read on the host."""
        return False

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Be told what will be gathered next, and in which order."""

    def stored(self, indices: Tensor) -> Tensor:
        """Pixels as they are stored, on the device."""
        return self.pixels.index_select(0, indices)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images in 0..1, not yet normalized, and labels."""
        return to_unit(self.stored(indices)), self.labels.index_select(0, indices)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in their order, ready for the network."""
        everything = torch.arange(len(self))
        self.expect(torch.split(everything, size))
        for indices in torch.split(everything.to(self.labels.device), size):
            images, labels = self.gather(indices)
            yield self.preprocessing.normalize(images), labels


@dataclass(frozen=True, eq=False)
class Streamed(Resident):
    """One split on disk, read batch by batch, ahead of time where it is known what comes next.

    `pixels` are empty; `source` has them.
    """

    source: Images
    ahead: Ahead

    @classmethod
    def of(cls, images: Images, preprocessing: Preprocessing, device: torch.device) -> Resident:
        """Leave the pixels where they are."""
        nothing = torch.from_numpy(images.pixels[:0])
        labels = torch.from_numpy(images.labels).to(device)
        return cls(nothing, labels, preprocessing, images, Ahead(images, device))

    @property
    def is_streamed(self) -> bool:
        """Whether every batch is read on the host."""
        return True

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Begin to read what will be gathered next, in this order."""
        self.ahead.expect(batches)

    def stored(self, indices: Tensor) -> Tensor:
        """Pixels as they are stored, on the device."""
        return self.ahead.read(indices)


@dataclass(frozen=True, eq=False)
class Shifted(Resident):
    """The book's expanded training set: each image as it is and moved by one pixel up, down, left and right.

    The copies are windows of the images with a black border, made when they are gathered. Index i
    is image i % n, moved by SHIFTS[i // n].
    """

    SHIFTS = ((1, 1), (2, 1), (0, 1), (1, 2), (1, 0))

    plain: Resident

    @classmethod
    def around(cls, plain: Resident) -> Shifted:
        """The expansion of a split."""
        return cls(plain.pixels, plain.labels, plain.preprocessing, plain)

    def __len__(self) -> int:
        return len(self.SHIFTS) * len(self.labels)

    @property
    def all_labels(self) -> Tensor:
        """A label for each index."""
        return self.labels.repeat(len(self.SHIFTS))

    @property
    def is_streamed(self) -> bool:
        """Whether every batch is read on the host."""
        return self.plain.is_streamed

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Be told what will be gathered next, and in which order."""
        self.plain.expect(batch % len(self.labels) for batch in batches)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images in 0..1, not yet normalized, and labels."""
        height, width = self.preprocessing.shape[1:]
        image = indices % len(self.labels)
        padded = functional.pad(self.plain.stored(image), [1, 1, 1, 1])
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        each = torch.arange(len(indices), device=indices.device)
        down, right = constant(self.SHIFTS, indices.device, torch.int64)[indices // len(self.labels)].unbind(1)
        return to_unit(windows[each, :, down, right]), self.labels.index_select(0, image)


def exceeds(size: int, device: torch.device, budget: int | None) -> bool:
    """Whether so many bytes are more than `budget`, or than half of what the device has."""
    return size > (memory_of(device) // 2 if budget is None else budget)


def placed(images: Images, preprocessing: Preprocessing, device: torch.device, budget: int | None) -> Resident:
    """A split on the device, or streamed to it where it takes more than `budget` bytes, or half of what it has."""
    place = Streamed if exceeds(images.pixels.nbytes, device, budget) else Resident
    return place.of(images, preprocessing, device)


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


def balanced_order(labels: Tensor, seed: int, epoch: int) -> Tensor:
    """As many indices as `labels`, in which each class comes equally often; a function of seed and epoch alone.

    Of a class that is larger than its share some images are drawn, those of a smaller one come in turns.
    """
    generator = torch.Generator().manual_seed(derived_seed(seed, f"order/{epoch}"))
    by_class = [own for own in torch.split(labels.argsort(stable=True), torch.bincount(labels).tolist()) if len(own)]
    drawn = []
    for number, own in enumerate(by_class):
        wanted = (len(labels) + number) // len(by_class)
        rounds = math.ceil(wanted / len(own))
        drawn += [own[torch.randperm(len(own), generator=generator)] for _ in range(rounds)]
        drawn[-1] = drawn[-1][: wanted - (rounds - 1) * len(own)]
    return torch.cat(drawn)[torch.randperm(len(labels), generator=generator)]
