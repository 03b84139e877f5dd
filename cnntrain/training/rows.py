"""What a run writes down as it goes: a row for each epoch, and one for each layer in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# What `training.monitor` may name besides accuracy: columns of `metrics.csv`.
BALANCED, LOSS = "validation_balanced_accuracy", "validation_loss"


@dataclass(frozen=True)
class EpochResult:
    """One row of `metrics.csv`. Losses in nats, accuracies in 0..1, those of the test images at a best epoch only.

    `train` figures are means over the epoch while the network changes, under dropout, augmentation and label smoothing;
    `sample` figures are of training images, as many as validate, at the epoch's end and without any of these.
    The balanced accuracy is the mean over classes of the accuracy on each.
    """

    epoch: int
    step: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    sample_loss: float
    sample_accuracy: float
    validation_loss: float
    validation_accuracy: float
    # Runs of earlier versions have no balanced ones.
    validation_balanced_accuracy: float | None = field(default=None, kw_only=True)
    test_accuracy: float | None
    test_balanced_accuracy: float | None = field(default=None, kw_only=True)
    best: bool
    seconds: float
    images_per_second: float

    def figure(self, monitor: str) -> float:
        """What is monitored, as a figure of which more is better."""
        return figure_of(vars(self), monitor)


def figure_of(row: Mapping[str, Any], monitor: str) -> float:
    """The same of a row as it was read back."""
    value: float = row[monitor]
    return -value if monitor == LOSS else value


def in_words(column: str) -> str:
    """A column's name within a sentence."""
    return column.replace("_", " ")


def measured(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it was read back, without what was not measured, for which an earlier version has no name."""
    return {name: value for name, value in row.items() if value is not None}


@dataclass(frozen=True)
class LayerHealth:
    """Euclidean norms of a layer's weights, and of their gradient in the last batch of an epoch (0: the very first).

    The weights are those after that batch.

    The gradient is the one that the optimizer took: clipped, where `training.clip_grad_norm` clips, and before it adds
    `l2` or `weight_decay`.
    """

    epoch: int
    layer: str
    weight_norm: float
    gradient_norm: float
