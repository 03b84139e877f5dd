"""What a verdict on a run takes into account besides its figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cnntrain.training.regularization import Regularization

if TYPE_CHECKING:
    from torch import nn

    from cnntrain.config.schema import Config
    from cnntrain.data.splits import Splits
    from cnntrain.training.rows import LayerHealth

# Schedules over all epochs, however many; others come to their end before.
STRETCHING = ("constant", "cosine", "linear", "one_cycle")
# In standard errors: what chance alone hardly ever brings about.
SIGNIFICANT = 2


@dataclass(frozen=True)
class Circumstances:
    """How a network was trained and measured.

    `images` are validated, as many of the `trained` ones are drawn to compare; `guess` is the share of the validation
    images, in 0..1, that are of the most frequent class, and `guess_loss` the loss, in nats, of giving all `classes`
    the same probability.
    """

    regularization: Regularization = field(default_factory=Regularization)
    normalizes: bool = False
    stretches: bool = True
    images: float = math.inf
    trained: float = math.inf
    guess: float = 0.0
    guess_loss: float = math.inf
    health: Sequence[LayerHealth] = ()

    @classmethod
    def of(cls, config: Config, network: nn.Module, splits: Splits, health: Sequence[LayerHealth]) -> Circumstances:
        """Those of a run."""
        return cls(
            regularization=Regularization.of(config, network),
            normalizes=config.data.normalize,
            stretches=config.training.schedule.name in STRETCHING,
            images=len(splits.validation),
            trained=len(splits.train),
            guess=float(np.bincount(splits.validation.labels).max() / len(splits.validation)),
            guess_loss=math.log(len(splits.classes)),
            health=health,
        )

    def best_guess(self, count: float) -> float:
        """An accuracy, in 0..1, of so many images that a network which always gives one class may have by chance."""
        return self.guess + SIGNIFICANT * standard_error(self.guess, count)


def standard_error(share: float, count: float) -> float:
    """That of a share, in 0..1, of so many images: sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / count)
