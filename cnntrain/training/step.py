"""One step of training: gather, augment, forward, backward, update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from cnntrain.data.augment.geometry import Augmentation
    from cnntrain.data.batches import Resident


@dataclass
class Totals:
    """Sums over the images of an epoch so far; they stay on the device until somebody reads them."""

    loss: Tensor
    correct: Tensor

    @classmethod
    def zero(cls, device: torch.device) -> Totals:
        """Nothing summed yet."""
        return cls(torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device))


@dataclass(frozen=True)
class Step:
    """All that one step works with; calling it with indices of images trains on them."""

    network: nn.Module
    optimizer: Optimizer
    images: Resident
    augmentations: Sequence[Augmentation]
    label_smoothing: float
    clip_grad_norm: float | None

    def __call__(self, indices: Tensor, totals: Totals) -> None:
        """One update from the images at `indices` (batch,), counted into `totals`."""
        batch, labels = self.images.gather(indices)
        for augment in self.augmentations:
            batch = augment(batch)
        logits = self.network(self.images.preprocessing.normalize(batch))
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip_grad_norm is not None:
            clip_grad_norm_(self.network.parameters(), self.clip_grad_norm)
        self.optimizer.step()
        totals.loss += loss.detach() * len(indices)
        totals.correct += (logits.argmax(1) == labels).sum()
