"""A workload's images as one feeds them to PyTorch, those of W5 augmented: one at a time, or a batch at once."""

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

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


def dataset(workload: str) -> Dataset[tuple[Tensor, ...]]:
    """For a `DataLoader`."""
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
