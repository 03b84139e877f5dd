"""A network's answers to a split, and how right they are.

Shapes: logits are (images, classes), labels (images,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnntrain.data.batches import Resident
    from cnntrain.training.distributed import Ranks

BATCH = 500


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats, and the fraction classified rightly, in 0..1."""

    loss: float
    accuracy: float


def logits_of(network: nn.Module, images: Resident) -> Tensor:
    """The network's logits for every image, in order."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            return torch.cat([network(batch) for batch, _ in images.batches(BATCH)])
    finally:
        network.train(was_training)


def score(logits: Tensor, labels: Tensor) -> Score:
    """Loss and accuracy of logits, in one transfer from the device."""
    loss = functional.cross_entropy(logits.float(), labels)
    correct = (logits.argmax(1) == labels).sum()
    # One stack, one transfer; a float32 counts images exactly up to 2^24.
    values = torch.stack([loss, correct.to(loss.dtype)]).tolist()
    return Score(values[0], values[1] / len(labels))


def evaluate(network: nn.Module, images: Resident, ranks: Ranks) -> Score:
    """Loss and accuracy of the network over a split, of which each rank has a part."""
    loss, correct, count = (sum(column) for column in zip(*ranks.gather(_sums(network, images)), strict=True))
    return Score(loss / count, correct / count)


def _sums(network: nn.Module, images: Resident) -> tuple[float, int, int]:
    """Loss, right answers and images, summed."""
    if len(images) == 0:
        return 0.0, 0, 0
    result = score(logits_of(network, images), images.labels)
    return result.loss * len(images), round(result.accuracy * len(images)), len(images)
