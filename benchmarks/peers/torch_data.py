"""A workload's images as one feeds them to PyTorch, those of W5 augmented: one at a time, or a batch at once."""

import os
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.workloads import WORKLOADS, arrays

SHIFT, HOLE = 4, 8


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Images that are shifted, mirrored and erased when one asks for them, as torchvision's transforms do it."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = functional.pad(self.images[index], [SHIFT] * 4)
        top, left = torch.randint(0, 2 * SHIFT + 1, (2,)).tolist()
        image = image[:, top : top + 32, left : left + 32]
        if torch.rand(1).item() < 0.5:
            image = image.flip(-1)
        if torch.rand(1).item() < 0.5:
            image = image.clone()
            top, left = torch.randint(0, 32 - HOLE + 1, (2,)).tolist()
            image[:, top : top + HOLE, left : left + HOLE] = 0
        return image, self.labels[index]


def loader(workload: str, batch_size: int, device: torch.device) -> DataLoader[tuple[Tensor, ...]]:
    """As in PyTorch's examples: for a GPU other processes load, into pinned memory, and as many as augmenting needs."""
    how: dict[str, Any] = {}
    if device.type == "cuda":
        is_augmented = bool(WORKLOADS[workload].data.get("augment"))
        workers = min(8, os.cpu_count() or 1) if is_augmented else 1
        how = {"num_workers": workers, "persistent_workers": True, "pin_memory": True}
    return DataLoader(dataset(workload), batch_size=batch_size, shuffle=True, **how)


def dataset(workload: str) -> Dataset[tuple[Tensor, ...]]:
    """What a `DataLoader` takes."""
    images, labels = map(torch.from_numpy, arrays(workload))
    return Augmented(images, labels) if WORKLOADS[workload].data.get("augment") else TensorDataset(images, labels)


def augmented(images: Tensor) -> Tensor:
    """A batch (batch, 3, 32, 32) shifted, mirrored and erased, each image differently."""
    count = len(images)
    padded = functional.pad(images, [SHIFT] * 4)
    top, left = torch.randint(0, 2 * SHIFT + 1, (2, count, 1))
    rows, columns = top + torch.arange(32), left + torch.arange(32)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns, columns.flip(1))
    moved = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    top, left = torch.randint(0, 32 - HOLE + 1, (2, count, 1))
    covered_rows = (torch.arange(32) - top).div(HOLE, rounding_mode="floor") == 0
    covered_columns = (torch.arange(32) - left).div(HOLE, rounding_mode="floor") == 0
    covered = covered_rows[:, :, None] & covered_columns[:, None, :] & (torch.rand(count, 1, 1) < 0.5)
    return moved.masked_fill(covered[:, None], 0.0)
