"""A network's answers to a split, and how right they are.

Shapes: logits are (images, classes), labels (images,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cnntrain.training.hooks import watched

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnntrain.data.batches import Resident
    from cnntrain.training.distributed import Ranks

# Images at once: fewer than BATCH where a layer's output for them had more than VALUES values, 128 MiB of float32.
BATCH, VALUES = 500, 1 << 25


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats, and the fraction classified rightly, in 0..1."""

    loss: float
    accuracy: float


def logits_of(network: nn.Module, images: Resident, told: Callable[[int], None] = lambda done: None) -> Tensor:
    """The network's logits for every image, in order; `told` is called with how many are done."""
    size = min(BATCH, at_once(network, images))
    with _answering(network):
        answers, done = [], 0
        for batch, _ in images.batches(size):
            answers.append(network(batch))
            done += len(batch)
            told(done)
        return torch.cat(answers)


def at_once(network: nn.Module, images: Resident) -> int:
    """How many images a network can take at once with little memory, at least one: found by giving it a black one."""
    black = torch.zeros((1, *images.preprocessing.shape), device=images.labels.device)
    sizes = [black.numel()]
    with _answering(network), watched(network.named_modules(), lambda _, output: sizes.append(output.numel())):
        network(black)
    return max(1, VALUES // max(sizes))


@contextmanager
def _answering(network: nn.Module) -> Iterator[None]:
    """The network as it is when it is not trained."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
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
