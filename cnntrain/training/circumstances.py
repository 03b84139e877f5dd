"""What a verdict on a run takes into account besides its figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import stdev
from typing import TYPE_CHECKING

import numpy as np

from cnntrain.training.regularization import Regularization

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnntrain.config.schema import Config
    from cnntrain.data.images import Images
    from cnntrain.data.splits import Splits
    from cnntrain.training.rows import EpochResult, LayerHealth
    from cnntrain.training.state import State

# Schedules over all epochs, however many; others come to their end before.
STRETCHING = ("constant", "cosine", "linear", "one_cycle")
# Of the highest learning rate; at less, little changes any more.
LOW = 0.01
# In standard errors: what chance alone hardly ever brings about.
SIGNIFICANT = 2


@dataclass(frozen=True)
class Guess:
    """Always answering with the most frequent class: it is right for a `share`, in 0..1, of `count` images.

    `balanced` is the balanced accuracy up to which a network may know nothing of the classes.
    """

    share: float = 0.0
    count: float = math.inf
    balanced: float = math.inf

    @classmethod
    def of(cls, shares: NDArray[np.float64], count: int) -> Guess:
        """That on so many images, of whose classes each has a share."""
        there = shares[shares > 0]
        # Whatever is answered without a look is right for one of them on average, and for each by p (1 - p) <= 1/4.
        noise = math.sqrt(float(np.sum(1 / (4 * count * there)))) / len(there)
        return cls(float(shares.max()), count, 1 / len(there) + SIGNIFICANT * noise)

    @property
    def bound(self) -> float:
        """The accuracy up to which a network may do no more; never more than half the way to 1."""
        noise = SIGNIFICANT * standard_error(self.share, self.count)
        return min(self.share + noise, (1 + self.share) / 2)


@dataclass(frozen=True)
class Circumstances:
    """How a network was trained and measured.

    `trained` and `validated` are what guessing gives on these images. `guess_loss` is the validation loss, in nats, of
    always giving each class its share of what was trained on, `even_loss` the loss of giving all the same probability.
    `longer` is what would have it train on.
    """

    regularization: Regularization = field(default_factory=Regularization)
    normalizes: bool = False
    balances: bool = False
    clips: bool = False
    longer: str = "more `training.epochs`"
    trained: Guess = field(default_factory=Guess)
    validated: Guess = field(default_factory=Guess)
    guess_loss: float = math.inf
    even_loss: float = math.inf
    health: Sequence[LayerHealth] = ()

    @classmethod
    def of(cls, config: Config, splits: Splits, state: State) -> Circumstances:
        """Those of a run that has ended."""
        classes, balances = len(splits.classes), config.training.shuffle == "balanced"
        trained, validated = (_shares(images, classes) for images in (splits.train, splits.validation))
        if balances:
            trained = (trained > 0) / np.count_nonzero(trained)
        asked = validated > 0
        return cls(
            regularization=Regularization.of(config, state.network),
            normalizes=config.data.normalize,
            balances=balances,
            clips=config.training.clip_grad_norm is not None,
            longer=_longer(config, state),
            trained=Guess(float(trained.max()), len(splits.train)),
            validated=Guess.of(validated, len(splits.validation)),
            guess_loss=float(-np.sum(validated[asked] * np.log(trained[asked]))),
            even_loss=math.log(classes),
            health=state.health,
        )


def _shares(images: Images, classes: int) -> NDArray[np.float64]:
    """Of each class, in 0..1."""
    return np.bincount(images.labels, minlength=classes) / len(images)


def _longer(config: Config, state: State) -> str:
    training = config.training
    if state.epoch < training.epochs:
        return "a larger `patience`"
    if training.schedule.name not in STRETCHING and ends_low(state.history):
        return "a `training.schedule` that falls more slowly"
    return Circumstances.longer


def ends_low(history: Sequence[EpochResult]) -> bool:
    """Whether the learning rate has come down to nearly nothing."""
    return history[-1].learning_rate <= LOW * max(result.learning_rate for result in history)


def standard_error(share: float, count: float) -> float:
    """That of a share, in 0..1, of so many images: sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / count)


def standard_error_of_mean(values: Sequence[float]) -> float:
    """That of the mean of at least two values."""
    return stdev(values) / math.sqrt(len(values))
