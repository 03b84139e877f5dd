"""How far a network's probabilities can be trusted: of the images of which it is 90 % sure, 90 % should be right.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

# Intervals of equal width in 0..1, as many as in the paper.
INTERVALS = 15
# How sure a network may be asked to be.
SURE = (0.5, 0.8, 0.9, 0.95, 0.99)
# A loss that is so much of that of equal probabilities is no better.
NOTHING = 0.9999
# Standard errors within which 95 % of all measurements lie.
Z = 1.96


@dataclass(frozen=True)
class Interval:
    """The images whose prediction has a probability in the same interval: how many, its mean, how many are right.

    `probability` and `accuracy` are in 0..1.
    """

    images: int
    probability: float
    accuracy: float


def intervals(probability: NDArray[Any], is_right: NDArray[np.bool_]) -> list[Interval]:
    """The intervals that have images, from the least sure to the surest, without those whose probability is no number.

    `probability` is that of each image's prediction, in 0..1; both have the shape (images,).
    """
    is_number = np.isfinite(probability)
    probability, is_right = probability[is_number], is_right[is_number]
    number = np.minimum((probability * INTERVALS).astype(int), INTERVALS - 1)
    found = (number == one for one in np.unique(number))
    return [
        Interval(int(own.sum()), float(probability[own].mean(dtype=np.float64)), float(is_right[own].mean()))
        for own in found
    ]


def mean_probability(among: Sequence[Interval]) -> float:
    """Of all images' predictions; NaN where there are none."""
    return _mean(among, [one.probability for one in among])


def calibration_error(among: Sequence[Interval]) -> float:
    """The expected calibration error: the mean over all images of |accuracy - probability| of their interval.

    NaN where there are none.
    """
    return _mean(among, [abs(one.accuracy - one.probability) for one in among])


def _mean(among: Sequence[Interval], values: Sequence[float]) -> float:
    images = [one.images for one in among]
    return float(np.average(values, weights=images)) if images else math.nan


def accepted(probability: NDArray[Any], is_right: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """If only predictions of a probability of `at_least` so much are taken: of how many `images`, and their `accuracy`.

    There is no accuracy where there are no such images.
    """
    taken = ((least, is_right[probability >= least]) for least in SURE)
    return [
        {"at_least": least, "images": len(right), "accuracy": float(right.mean()) if len(right) else None}
        for least, right in taken
    ]


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature, above 0, by which logits (images, classes) are divided for the smallest mean cross-entropy.

    Temperature scaling, section 4.2 of the paper: the predictions stay what they are. Raises `ValueError` where
    there is none: logits are not finite, all predictions are right, or the loss is smallest for equal probabilities.
    """
    logits, labels = logits.detach().double().cpu(), labels.cpu()
    if not logits.isfinite().all():
        raise ValueError("some of its logits are not finite")
    if (logits.argmax(1) == labels).all():
        raise ValueError("it classifies all of them rightly")
    # However large logits are, the search begins near its end.
    scale = logits.std(correction=0).clamp(min=1e-30)
    logits = logits / scale
    # Of the temperature's inverse, in which the cross-entropy is convex, the logarithm: so it stays above 0.
    logarithm = torch.zeros((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([logarithm], max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = functional.cross_entropy(logits * logarithm.exp(), labels)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(loss)  # type: ignore[no-untyped-call]
    if loss().item() > NOTHING * math.log(logits.shape[1]):
        raise ValueError("it knows nothing of them")
    return float(scale.item() * math.exp(-logarithm.item()))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Between what, in 0..1, a share measured on `count` images lies with a confidence of 95 %.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927, which does not
    take 0 of 3 for a certain 0.
    """
    middle, weight = share + Z**2 / (2 * count), 1 + Z**2 / count
    half = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, (middle - half) / weight), min(1.0, (middle + half) / weight)
