"""The training loop: a generator, so that whoever iterates over it saves and prints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from cnntrain.data.batches import balanced_order, epoch_order
from cnntrain.errors import Diverged
from cnntrain.text import counted
from cnntrain.training.divergence import first_not_finite, weights_are_finite
from cnntrain.training.engine import Engine
from cnntrain.training.evaluate import Score, evaluate
from cnntrain.training.frozen import set_training
from cnntrain.training.health import layer_health
from cnntrain.training.plan import Plan
from cnntrain.training.rows import EpochResult, in_words
from cnntrain.training.schedules import warmed_up
from cnntrain.training.state import State
from cnntrain.training.step import Totals

if TYPE_CHECKING:
    from torch import Tensor

    from cnntrain.config.schema import Config
    from cnntrain.data.batches import Resident

# How often a CPU looks whether the loss is still finite; elsewhere it waits for the epoch's end.
FINITE_CHECK_BATCHES = 100
# What a rollback multiplies the learning rate by, and how many there may be in a run.
LOWERED, ROLLBACKS = 0.5, 5


@dataclass(frozen=True)
class Progress:
    """Within an epoch: `batch` of `batches` are done, in the epoch counted from 1."""

    epoch: int
    batch: int
    batches: int


@dataclass(frozen=True)
class RolledBack:
    """Training has diverged, `why`, and begins again after `epoch` epochs, the learning rate times `factor`."""

    why: str
    epoch: int
    factor: float


@dataclass(frozen=True)
class Remark:
    """A line about how the steps are carried out."""

    text: str


def train(plan: Plan, state: State) -> Iterator[Progress | Remark | RolledBack | EpochResult]:
    """Train until the state says why to stop; between any two items it can be saved and resumed exactly.

    Raises `Diverged` when a loss or a weight is no longer finite, and it is not to be rolled back.
    """
    state.keeps_anchor = plan.config.training.on_divergence == "rollback"
    while not state.stopped:
        # Also where nothing is rolled back: what diverges is looked for from there.
        if state.batch == 0 or state.anchor is None:
            state.set_anchor()
        try:
            yield from _train_epoch(plan, state)
            yield from _finish_epoch(plan, state)
        except Diverged as error:
            yield _roll_back(plan, state, str(error))


def settle(plan: Plan, state: State) -> RolledBack | None:
    """See that the state is worth saving within an epoch; one that is not finite is rolled back, as `train` does it."""
    try:
        check_finite(state)
    except Diverged as error:
        return _roll_back(plan, state, str(error))
    return None


def _train_epoch(plan: Plan, state: State) -> Iterator[Progress | Remark]:
    batches = _batches(plan, state)
    set_training(state.network, plan.config.training.freeze)
    yield from _remarks(plan.engine)
    while state.batch < len(batches):
        started = perf_counter()
        _train_batches(plan, state, batches, plan.engine)
        if state.batch == len(batches):
            # A device may lag behind by many steps, which are of this epoch's seconds too.
            state.totals.loss.item()
        state.seconds += perf_counter() - started
        yield from _remarks(plan.engine)
        if state.step == 1:
            state.health = layer_health(state.network, epoch=0)
        if state.device.type == "cpu" and state.batch % FINITE_CHECK_BATCHES == 0:
            check_loss(state)
        if state.batch == len(batches):
            state.health += layer_health(state.network, state.epoch + 1)
        yield Progress(state.epoch + 1, state.batch, len(batches))


def _remarks(engine: Engine) -> Iterator[Remark]:
    """What it has to say, once."""
    if engine.remark:
        yield Remark(engine.remark)
        engine.remark = ""


@dataclass(frozen=True)
class Batches:
    """An epoch's batches, indices of images; cut when they are asked for: a GPU would wait for all to be cut."""

    order: Tensor
    size: int

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.size)

    def part(self, first: int, count: int) -> Sequence[Tensor]:
        """So many batches, from the `first` on."""
        return torch.split(self.order[first * self.size : (first + count) * self.size], self.size)


def _batches(plan: Plan, state: State) -> Batches:
    order = _expect(plan, state)
    return Batches(order.to(state.device), plan.config.training.batch_size)


def _expect(plan: Plan, state: State) -> Tensor:
    """Say which images are to come in the epoch, from where the state is; gives the order of all of them."""
    config, images = plan.config, plan.feeds.train
    if config.training.shuffle == "balanced":
        order = balanced_order(images.all_labels.cpu(), config.seed, state.epoch)
    else:
        order = epoch_order(len(images), config.training.shuffle, config.seed, state.epoch)
    batches = Batches(order, config.training.batch_size)
    coming = (batches.part(number, 1)[0] for number in range(state.batch, len(batches)))
    images.expect(state.ranks.own(batch) for batch in coming)
    return order


def _train_batches(plan: Plan, state: State, batches: Batches, engine: Engine, is_watched: bool = False) -> None:
    """Train on the next batch, or on as many as the engine takes at once."""
    count = engine.at_once(state.step, len(batches) - state.batch, len(batches))
    if state.device.type == "cpu":
        # No further than to where the loss is looked at.
        count = min(count, FINITE_CHECK_BATCHES - state.batch % FINITE_CHECK_BATCHES)
    factors = [_factor(plan, state, state.batch + ahead) for ahead in range(count)]
    # The health of the layers is read after these.
    keeps_gradients = is_watched or state.step == 0 or state.batch == len(batches) - 1
    # Several ranks take one batch at once.
    shares, counted = zip(*map(state.ranks.share, batches.part(state.batch, count)), strict=True)
    totals = state.totals if all(counted) else Totals.zero(state.device)
    engine.run(shares, factors, totals, keeps_gradients)
    state.learning_rate = state.optimizer.param_groups[-1]["initial_lr"] * factors[-1]
    state.batch += count
    state.step += count


def _factor(plan: Plan, state: State, batch: int) -> float:
    """What the initial learning rate is multiplied by in a batch of the epoch."""
    step = 1 / plan.batches
    time = state.epoch + batch * step
    factor = warmed_up(state.schedule.factor(time), time, plan.config.training.warmup_epochs, step)
    # A plugin may give a number of NumPy's, which no checkpoint may hold.
    return float(factor * LOWERED**state.rollbacks)


def check_loss(state: State) -> None:
    """Raise `Diverged` when the loss summed so far is not finite."""
    loss = state.summed("loss")
    if not math.isfinite(loss):
        raise Diverged(f"the loss is {loss} in epoch {state.epoch + 1} at or before batch {state.batch}")


def check_finite(state: State) -> None:
    """Raise `Diverged` when the loss so far, a weight or a running statistic is not finite."""
    check_loss(state)
    if not weights_are_finite(state):
        raise Diverged(f"weights are no longer finite in epoch {state.epoch + 1} at or before batch {state.batch}")


def _roll_back(plan: Plan, state: State, error: str) -> RolledBack:
    """Go back to the epoch's beginning with a lower learning rate; raise `Diverged` when that is not to be."""
    learning_rate = state.learning_rate
    error += _first_not_finite(plan, state)
    if not state.keeps_anchor:
        initial = "" if state.history else "; if it diverges all the same, examine the `init` with `cnntrain probe`"
        raise Diverged(f"{error}; {_advice(learning_rate, '`training.on_divergence: rollback`')}{initial}")
    if state.rollbacks == ROLLBACKS:
        raise Diverged(f"{error}, though the learning rate was lowered {ROLLBACKS} times; {_advice(learning_rate)}")
    state.go_back()
    state.rollbacks += 1
    state.set_anchor()
    # Whoever is in the middle of the epoch goes on with it from its beginning.
    _expect(plan, state)
    return RolledBack(error, state.epoch, LOWERED**state.rollbacks)


def _first_not_finite(plan: Plan, state: State) -> str:
    """What went wrong first; found by training again from the epoch's beginning."""
    state.go_back()
    set_training(state.network, plan.config.training.freeze)
    batches = _batches(plan, state)
    # A layer can't be looked at within a graph.
    plain = Engine(plan.engine.step)

    def train_a_batch() -> bool:
        is_one_left = state.batch < len(batches)
        if is_one_left:
            _train_batches(plan, state, batches, plain, is_watched=True)
        return is_one_left

    first = first_not_finite(state, train_a_batch)
    return f"; first to be not finite: {first}" if first else ""


def _advice(learning_rate: float, *further: str) -> str:
    *ways, last = ("`training.clip_grad_norm`", "`training.warmup_epochs`", *further)
    return f"the learning rate was {learning_rate:g}: lower it, or set {', '.join(ways)} or {last}"


def _finish_epoch(plan: Plan, state: State) -> Iterator[Progress | EpochResult]:
    started = perf_counter()
    check_finite(state)
    seconds = state.seconds + perf_counter() - started
    images = len(plan.feeds.train)
    # Whoever asks for an end waits for a part of the images at most.
    evaluated = Progress(state.epoch + 1, state.batch, state.batch)
    sample = _scored(state, plan.feeds.sample, "training")
    yield evaluated
    validation = _scored(state, plan.feeds.validation, "validation")
    yield evaluated
    result = EpochResult(
        epoch=state.epoch + 1,
        step=state.step,
        learning_rate=state.learning_rate,
        train_loss=state.summed("loss") / images,
        train_accuracy=state.summed("correct") / images,
        sample_loss=sample.loss,
        sample_accuracy=sample.accuracy,
        validation_loss=validation.loss,
        validation_accuracy=validation.accuracy,
        validation_balanced_accuracy=validation.balanced_accuracy,
        test_accuracy=None,
        best=False,
        seconds=seconds,
        images_per_second=images / seconds,
    )
    if _is_best(result, state.best, plan.config.training.monitor):
        # The test set is read then, and selects nothing.
        test = _score(state, plan.feeds.test)
        balanced = test.balanced_accuracy
        result = replace(result, best=True, test_accuracy=test.accuracy, test_balanced_accuracy=balanced)
    _advance(plan, state, result)
    yield result


def _is_best(result: EpochResult, before: EpochResult | None, monitor: str) -> bool:
    """Whether an epoch is at least as good as the best one before it: of equals the later counts, as in the book."""
    return before is None or result.figure(monitor) >= before.figure(monitor)


def _scored(state: State, images: Resident, what: str) -> Score:
    """How good the network is now; raises `Diverged` where that is no number, though the weights are."""
    score = _score(state, images)
    if not math.isfinite(score.loss):
        raise Diverged(f"the loss of the {what} images is {score.loss} at the end of epoch {state.epoch + 1}")
    return score


def _score(state: State, images: Resident) -> Score:
    with state.averaged():
        return evaluate(state.network, images, state.ranks)


def _advance(plan: Plan, state: State, result: EpochResult) -> None:
    """Count the epoch as done, and see whether it was the last."""
    early, monitor = plan.config.training.early_stopping, plan.config.training.monitor
    state.history.append(result)
    state.epoch, state.batch, state.seconds = result.epoch, 0, 0.0
    state.totals = Totals.zero(state.device)
    state.schedule.observe(result.figure(monitor))
    idle = state.stopping.observe(result.figure(monitor))
    if result.best and early and early.restore_best:
        state.keep_best_weights()
    if early and idle >= early.patience:
        enough = f" by more than {early.min_delta:g}" if early.min_delta else ""
        state.end(f"{in_words(monitor)} has not improved{enough} for {counted(idle, 'epoch')}")
    elif state.schedule.finished:
        state.end(state.schedule.finished)
    else:
        stop_when_done(plan.config, state)


def stop_when_done(config: Config, state: State) -> None:
    """Stop at the end of the last epoch."""
    epochs = config.training.epochs
    if state.epoch >= epochs and not state.stopped:
        state.end("the only epoch is done" if epochs == 1 else f"all {epochs} epochs are done")
