"""A network that is no better than guessing, and what the run's figures say of the cause."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from cnntrain.text import either
from cnntrain.training.circumstances import standard_error

if TYPE_CHECKING:
    from cnntrain.training.circumstances import Circumstances
    from cnntrain.training.rows import EpochResult, LayerHealth

# A difference of accuracies that tells of more than chance: so large; of two splits also so many standard errors.
APART, SURE = 0.1, 4
# A loss that was as many times that of guessing is one of steps that were too long.
EXPLODED = 2
# A gradient that is so small a part of that of the last layer moves nothing.
VANISHED = 1e-3
# Weights that have so small a part of their first norm say nothing.
SHRUNK = 1e-2


def guessing(history: Sequence[EpochResult], given: Circumstances) -> str:
    """A verdict on a network that guesses, on all images or on those that it was not trained on; else nothing."""
    last, most = history[-1], max(result.validation_accuracy for result in history)
    right = f"{100 * last.sample_accuracy:.2f} % of"
    guessed = f"always answering with the most frequent class is right for {100 * given.guess:.2f} %"
    # All training images tell more than a sample, but were seen under dropout and augmentation.
    guesses_all = last.train_accuracy <= given.best_guess(given.trained)
    if guesses_all and last.sample_accuracy <= given.best_guess(given.images):
        said = f"no better than guessing: {right} the training images are classified correctly, and {guessed}"
        return f"{said}; {_cause(history, given)}"
    is_known = given.best_guess(given.images) - given.guess < APART
    if is_known and most <= given.best_guess(given.images) and last.sample_accuracy > most + APART:
        said = f"nothing learned but the training images: {right} them are classified correctly"
        never = f"but never more than {100 * most:.2f} % of the validation images, where {guessed}"
        return f"{said}, {never}; do the labels belong to the images?"
    return ""


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


def _cause(history: Sequence[EpochResult], given: Circumstances) -> str:
    epochs = [list(rows) for _, rows in groupby(given.health, key=lambda row: row.epoch)]
    still = [rows[0].epoch for rows in epochs if not any(row.gradient_norm for row in rows)]
    highest = max(result.train_loss for result in history)
    if epochs and epochs[-1][0].epoch in still:
        since = f"since epoch {still[0]}" if still[0] else "from the first batch on"
        remedy = "a lower learning rate" if still[0] else "another `init`"
        return f"the weights have had no gradient {since}, as where all units are dead; try {remedy}"
    if highest > EXPLODED * given.guess_loss:
        loss = f"training loss was {highest:.4g} in an epoch, where guessing has {given.guess_loss:.4g}"
        return f"{loss}; try a lower learning rate, or `training.clip_grad_norm`"
    regularization = given.regularization
    if epochs and regularization.decays and _have_shrunk(epochs[0], epochs[-1]):
        return f"the weights have shrunk to nothing; try a smaller {regularization.decay}"
    if epochs and _vanishes(epochs[-1]):
        part = epochs[-1][0].gradient_norm / epochs[-1][-1].gradient_norm
        small = f"the first layer's gradient is {part:.0e} times that of the last"
        return f"{small}; try `relu`, `batch_norm`, `residual` layers, or another `init`"
    ways = ["`training.shuffle: balanced`"] if given.guess > 0.5 else []
    ways += ["ten times the learning rate", "a tenth of it"]
    if not given.normalizes:
        ways.append("`data.normalize: true`")
    return f"try {either([*ways, *regularization.less(), 'look at it with `cnntrain probe`'])}"


def _have_shrunk(before: Sequence[LayerHealth], now: Sequence[LayerHealth]) -> bool:
    first = {row.layer: row.weight_norm for row in before}
    return all(row.weight_norm < SHRUNK * first.get(row.layer, 0.0) for row in now)


def _vanishes(rows: Sequence[LayerHealth]) -> bool:
    return rows[0].gradient_norm < VANISHED * rows[-1].gradient_norm
