"""What the figures of a run say: above all whether the network overfits (the book's sixth problem).

Losses are in nats, accuracies in 0..1; "sample" figures are of training images, as many as validate,
seen without dropout and augmentation, so that both sides are measured alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import TYPE_CHECKING

from cnntrain.text import counted, either, loss
from cnntrain.training.circumstances import SIGNIFICANT, Circumstances, ends_low, standard_error
from cnntrain.training.guessing import APART, guesses, memorizes

if TYPE_CHECKING:
    from cnntrain.training.rows import EpochResult

# A validation loss that rises by less than this over its minimum is taken for noise.
RISE = 0.05
# In nats; a rise by less, or by what a single image may bring about, is noise too.
LITTLE_LOSS = 0.01
# A difference of accuracies that deserves a word, between splits and between epochs.
GAP = 0.02
FALL = 0.005
# With more wrong training images than this, what does not overfit is called underfitting.
UNDERFIT = 0.1
# With more wrong than so many, hardly anything was learned, wherever the loss is going.
LITTLE = 0.5
# Accuracies of two splits that differ by as many standard errors, and by APART, do so not by chance.
SURE = 4
# Fewer images than this tell little.
FEW = 100
ORDINARY = Circumstances()


@dataclass(frozen=True)
class Verdict:
    """Whether a run overfits, since when, and what to do about it, in plain language.

    `validation_loss_rise` is relative, from the epoch of the lowest validation loss, where it `turned`, to the end.
    """

    text: str
    overfits: bool
    turned_in_epoch: int
    validation_loss_rise: float
    accuracy_gap: float


@dataclass(frozen=True)
class _End:
    """Medians over the last quarter of the epochs since the turn: a single one may be far off."""

    sample_loss: float
    sample_accuracy: float
    validation_loss: float
    validation_accuracy: float

    @classmethod
    def of(cls, since: Sequence[EpochResult]) -> _End:
        late = since[-max(1, len(since) // 4) :]
        return cls(*(median(getattr(result, field.name) for result in late) for field in fields(cls)))


def verdict(history: Sequence[EpochResult], given: Circumstances = ORDINARY) -> Verdict:
    """Judge a run by its losses on equal samples of training and validation images."""
    turn = min(history, key=lambda result: result.validation_loss)
    last, end = history[-1], _End.of(history[turn.epoch :] or history[-1:])
    rise = end.validation_loss / turn.validation_loss - 1 if turn.validation_loss > 0 else 0.0
    gap = last.sample_accuracy - last.validation_accuracy
    no_better = guesses(history, given)
    count = given.validated.count
    has_risen = rise > RISE and end.validation_loss - turn.validation_loss > max(LITTLE_LOSS, 1 / count)
    overfits = has_risen and end.sample_loss < turn.sample_loss and not no_better
    accuracies = ((end.sample_accuracy, turn.sample_accuracy), (end.validation_accuracy, turn.validation_accuracy))
    fallen = [before - now > max(FALL, SIGNIFICANT * standard_error(before, count)) for now, before in accuracies]
    nothing = no_better or memorizes(history, given)
    if nothing:
        text = nothing
    elif overfits:
        text = _overfitting(turn, end, rise, given)
    elif has_risen and all(fallen):
        text = _unsteady(history, turn, rise)
    else:
        text = _no_turn(history, gap, given)
    return Verdict(text, overfits, turn.epoch, rise, gap)


def unlike(best: EpochResult, validation: int, test: int) -> str:
    """What to say where so many test images are another matter than so many validation images; else nothing."""
    assert best.test_accuracy is not None
    gap = best.validation_accuracy - best.test_accuracy
    share = (best.validation_accuracy * validation + best.test_accuracy * test) / (validation + test)
    noise = math.hypot(standard_error(share, validation), standard_error(share, test))
    if gap <= max(APART, SURE * noise):
        return ""
    return (
        f"test accuracy is {100 * gap:.1f} points below validation accuracy: the test images, or their labels, are "
        f"unlike the others; look at the mistakes"
    )


def _overfitting(turn: EpochResult, end: _End, rise: float, given: Circumstances) -> str:
    ways = [*given.regularization.more(), "fewer units"]
    if not given.regularization.stops_early:
        ways.append("`training.early_stopping`")
    return (
        f"overfitting since epoch {turn.epoch}: training loss kept falling ({loss(turn.sample_loss)} to "
        f"{loss(end.sample_loss)}) while validation loss rose by {100 * rise:.0f} % ({loss(turn.validation_loss)} to "
        f"{loss(end.validation_loss)}){_few(given)}; try {either(ways)}"
    )


def _unsteady(history: Sequence[EpochResult], turn: EpochResult, rise: float) -> str:
    schedule = "" if ends_low(history) else ", or a `training.schedule` that ends low, such as cosine"
    return (
        f"unsteady: both losses were lower in epoch {turn.epoch} (training {loss(turn.sample_loss)}, validation "
        f"{loss(turn.validation_loss)}, now higher by {100 * rise:.0f} %) than at the end; "
        f"try a lower learning rate{schedule}"
    )


def _no_turn(history: Sequence[EpochResult], gap: float, given: Circumstances) -> str:
    last = history[-1]
    figures = (
        f"{100 * last.sample_accuracy:.2f} % of training, {100 * last.validation_accuracy:.2f} % of validation images"
        + _few(given)
    )
    training_error = 1 - last.sample_accuracy
    noise = SIGNIFICANT * standard_error(last.validation_accuracy, given.validated.count)
    if gap > max(GAP, training_error, noise):
        return f"a gap, but no overfitting: {figures}; {_trend(history)}; try {either(given.regularization.more())}"
    is_falling = len(history) > 1 and last.validation_loss < min(r.validation_loss for r in history[:-1])
    is_perfect = last.validation_accuracy == 1
    if training_error <= LITTLE and is_falling and not ends_low(history) and not is_perfect:
        return f"no overfitting, and validation loss was still falling ({figures}); try {given.longer}"
    if training_error > UNDERFIT:
        # What narrows a gap is not to be taken away.
        less = [] if gap > max(GAP, noise) else given.regularization.less()
        ways = [given.longer, "another learning rate", "a larger network", *less]
        return (
            f"underfitting: {100 * training_error:.2f} % of the training images are still wrong ({figures}); "
            f"try {either([*ways, 'look at it with `cnntrain probe`'])}"
        )
    return f"no overfitting: {figures}"


def _few(given: Circumstances) -> str:
    count = given.validated.count
    return f", measured on only {counted(int(count), 'image')} of each" if count < FEW else ""


def _trend(history: Sequence[EpochResult]) -> str:
    """How the gap moved over the second half of the run."""
    middle, last = history[len(history) // 2], history[-1]
    change = (last.sample_accuracy - last.validation_accuracy) - (middle.sample_accuracy - middle.validation_accuracy)
    if abs(change) < GAP / 4:
        return f"the gap is steady since epoch {middle.epoch}"
    direction = "grew" if change > 0 else "shrank"
    return f"the gap {direction} by {100 * abs(change):.1f} points since epoch {middle.epoch}"
