"""A network's answers to a split, and how right they are.

Shapes: logits are (images, classes), labels (images,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from cnntrain.training.hooks import watched

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnntrain.data.batches import Resident
    from cnntrain.training.distributed import Ranks

# Images at once: fewer than BATCH where a layer's output for them had more than VALUES values, 128 MiB of float32.
BATCH, VALUES = 500, 1 << 25
# The summed loss of some images; how many of each class are classified rightly, and how many are not.
Sums = tuple[float, list[float], list[float]]


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats; the fraction classified rightly, in 0..1, and the mean of that over the classes."""

    loss: float
    accuracy: float
    balanced_accuracy: float


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
    black = torch.zeros((1, *images.preprocessing.shape), dtype=torch.float32, device=images.labels.device)
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
    """How right the logits are."""
    return _score([_sums(logits, labels)])


def evaluate(network: nn.Module, images: Resident, ranks: Ranks) -> Score:
    """How right the network is over a split, of which each rank has a part."""
    own = _sums(logits_of(network, images), images.labels) if len(images) else None
    return _score([sums for sums in ranks.gather(own) if sums])


def _sums(logits: Tensor, labels: Tensor) -> Sums:
    loss = functional.cross_entropy(logits.float(), labels)
    classes = logits.shape[1]
    counts = torch.bincount(labels + classes * (logits.argmax(1) == labels), minlength=2 * classes)
    # One stack, one transfer; a float32 counts images exactly up to 2^24.
    mean, *by_class = torch.cat([loss.view(1), counts]).tolist()
    return mean * len(labels), by_class[classes:], by_class[:classes]


def _score(parts: Sequence[Sums]) -> Score:
    losses, *counts = zip(*parts, strict=True)
    right, wrong = (np.sum(by_class, axis=0) for by_class in counts)
    images = right + wrong
    recalls = right[images > 0] / images[images > 0]
    count = float(images.sum())
    return Score(sum(losses) / count, float(right.sum()) / count, float(recalls.mean()))
