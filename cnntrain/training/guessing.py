"""A network that is no better than guessing, and what the run's figures say of the cause."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile
from typing import TYPE_CHECKING

from cnntrain.text import either
from cnntrain.training.circumstances import SIGNIFICANT, standard_error

if TYPE_CHECKING:
    from cnntrain.training.circumstances import Circumstances
    from cnntrain.training.rows import EpochResult, LayerHealth

# A difference of accuracies that tells of more than chance.
APART = 0.1
# A loss that was as many times that of guessing is one of steps that were too long.
EXPLODED = 2
# A gradient that is so small a part of that of the last layer moves nothing.
VANISHED = 1e-3
AT_ONCE = "from the first batch on"
# Beside a class that so many images are of, others are rare.
MANY = 0.6
# With more layers of weights, how they begin matters.
DEEP = 8
# A loss that is so much of a guess's tells of something known.
KNOWN = 0.95
# Weights that have so small a part of their first norm say nothing.
SHRUNK = 1e-2


def guesses(history: Sequence[EpochResult], given: Circumstances) -> str:
    """A verdict on a network that is no better than guessing, on any images in any epoch; else nothing."""
    most = _most(history)
    last = history[-1]
    # Initial weights may be right a little more often than by chance, but are no surer of it; who is right far more
    # often may be far too sure.
    is_more = last.train_loss < given.even_loss or last.sample_accuracy > given.validated.bound + APART
    has_learned = last.train_accuracy > given.trained.bound and is_more
    # During an epoch it is under dropout and augmentation: the validation images must say the same.
    if has_learned or most > given.validated.bound or _knows(history, given):
        return ""
    said = f"no better than guessing: never more than {_of_validation(most, given)}"
    return f"{said}; {_cause(history, given)}"


def memorizes(history: Sequence[EpochResult], given: Circumstances) -> str:
    """A verdict on a network that is no better than guessing where it was not trained; else nothing."""
    last, most, guess = history[-1], _most(history), given.validated
    is_known = guess.bound - guess.share < APART
    # Both are of as many images.
    noise = math.hypot(*(standard_error(accuracy, guess.count) for accuracy in (last.sample_accuracy, most)))
    is_apart = last.sample_accuracy > most + max(APART, SIGNIFICANT * noise)
    if not (is_known and is_apart) or most > guess.bound or _knows(history, given):
        return ""
    learned = f"{100 * last.sample_accuracy:.2f} % of them are classified correctly"
    said = f"nothing learned but the training images: {learned}"
    return f"{said}, but never more than {_of_validation(most, given)}; do the labels belong to the images?"


def _knows(history: Sequence[EpochResult], given: Circumstances) -> bool:
    """Whether it ever gave right classes more probability than a guess, if not most, or told rare ones from others."""
    balanced = max(result.validation_balanced_accuracy or 0.0 for result in history)
    lowest = min(result.validation_loss for result in history)
    return lowest < KNOWN * given.guess_loss or balanced > given.validated.balanced


def _most(history: Sequence[EpochResult]) -> float:
    return max(result.validation_accuracy for result in history)


def _of_validation(most: float, given: Circumstances) -> str:
    guess = f"always answering with the most frequent class is right for {100 * given.validated.share:.2f} %"
    return f"{100 * most:.2f} % of the validation images, where {guess}"


def _cause(history: Sequence[EpochResult], given: Circumstances) -> str:
    epochs = [list(rows) for _, rows in groupby(given.health, key=lambda row: row.epoch)]
    dead = list(takewhile(lambda rows: not rows[0].gradient_norm, reversed(epochs)))
    worst, regularization = max(history, key=lambda result: result.train_loss), given.regularization
    if dead:
        first = dead[-1][0].epoch
        since, remedy = (f"since epoch {first}", "a lower learning rate") if first else (AT_ONCE, "another `init`")
        return f"the first layer's weights have had no gradient {since}, as where units are dead; try {remedy}"
    if worst.train_loss > EXPLODED * given.even_loss and history[-1].train_loss >= KNOWN * given.even_loss:
        loss = (
            f"training loss was {worst.train_loss:.4g} in epoch {worst.epoch}, where guessing has {given.even_loss:.4g}"
        )
        return f"{loss}; try a lower learning rate{'' if given.clips else ', or `training.clip_grad_norm`'}"
    if epochs and regularization.decays and _have_shrunk(epochs[0], epochs[-1]):
        return f"the weights have shrunk to nothing; try a smaller {regularization.decay}"
    if epochs and _vanishes(epochs[-1]):
        part = epochs[-1][0].gradient_norm / epochs[-1][-1].gradient_norm
        small = f"the first layer's gradient is {part:.0e} times that of the last"
        return f"{small}; try activations such as `relu`, `batch_norm`, `residual` layers, or another `init`"
    return f"try {either([*_ways(history, given), *regularization.less(), 'look at it with `cnntrain probe`'])}"


def _ways(history: Sequence[EpochResult], given: Circumstances) -> Iterator[str]:
    """What may help where nothing points to the cause."""
    lowest = min(result.train_loss for result in history)
    if history[-1].train_loss == lowest < KNOWN * given.even_loss:
        yield given.longer
    if given.trained.share > MANY and not given.balances:
        yield "`training.shuffle: balanced`"
    yield from ("ten times the learning rate", "a tenth of it", "another `init`")
    if len({row.layer for row in given.health}) > DEEP:
        yield "`batch_norm` or `residual` layers"
    if not given.normalizes:
        yield "`data.normalize: true`"


def _have_shrunk(before: Sequence[LayerHealth], now: Sequence[LayerHealth]) -> bool:
    first = {row.layer: row.weight_norm for row in before}
    return all(row.weight_norm < SHRUNK * first.get(row.layer, 0.0) for row in now)


def _vanishes(rows: Sequence[LayerHealth]) -> bool:
    return rows[0].gradient_norm < VANISHED * rows[-1].gradient_norm
