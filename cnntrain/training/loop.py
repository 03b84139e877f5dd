"""The training loop: a generator, so that whoever iterates over it saves and prints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from cnntrain.data.batches import Resident, derived_seed, epoch_order
from cnntrain.errors import Diverged
from cnntrain.training.diagnostics import layer_health
from cnntrain.training.evaluate import evaluate
from cnntrain.training.optimizers import Trainable
from cnntrain.training.schedules import NoImprovement, warmed_up
from cnntrain.training.state import EpochResult, State
from cnntrain.training.step import Step, Totals

if TYPE_CHECKING:
    from torch import nn

    from cnntrain.config.schema import Config

# How often a CPU looks whether the loss is still finite; elsewhere it waits for the epoch's end.
FINITE_CHECK_BATCHES = 100


@dataclass(frozen=True)
class Feeds:
    """The three splits on the device, and as many training images as validate, unexpanded."""

    train: Resident
    sample: Resident
    validation: Resident
    test: Resident


@dataclass(frozen=True)
class Progress:
    """Within an epoch: `batch` of `batches` are done, in the epoch counted from 1."""

    epoch: int
    batch: int
    batches: int


@dataclass(frozen=True)
class Plan:
    """What does not change while a network is trained."""

    config: Config
    feeds: Feeds
    step: Step

    @property
    def batches(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return math.ceil(len(self.feeds.train) / self.config.training.batch_size)


def prepare(config: Config, network: nn.Module, feeds: Feeds, device: torch.device) -> tuple[Plan, State]:
    """A network on its device, ready to be trained from the beginning."""
    training = config.training
    torch.manual_seed(derived_seed(config.seed, "training"))
    batches = math.ceil(len(feeds.train) / training.batch_size)
    try:
        optimizer = training.optimizer.make(Trainable(network, training.l2 / batches))
    except ValueError as error:
        raise config.error(("training", "optimizer"), str(error)) from error
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    schedule = training.schedule.make(training.epochs)
    min_delta = training.early_stopping.min_delta if training.early_stopping else 0.0
    state = State(network, optimizer, schedule, device, Totals.zero(device), NoImprovement(min_delta))
    augmentations = [spec.make() for spec in config.data.augment]
    step = Step(network, optimizer, feeds.train, augmentations, training.label_smoothing, training.clip_grad_norm)
    return Plan(config, feeds, step), state


def train(plan: Plan, state: State) -> Iterator[Progress | EpochResult]:
    """Train until the state says why to stop; between any two items it can be saved and resumed exactly.

    Raises `Diverged` when the loss is no longer finite.
    """
    while not state.stopped:
        yield from _train_epoch(plan, state)
        yield _finish_epoch(plan, state)


def _train_epoch(plan: Plan, state: State) -> Iterator[Progress]:
    config = plan.config
    order = epoch_order(len(plan.feeds.train), config.training.shuffle, config.seed, state.epoch)
    batches = torch.split(order.to(state.device), config.training.batch_size)
    state.network.train()
    while state.batch < len(batches):
        started = perf_counter()
        _set_learning_rate(plan, state)
        plan.step(batches[state.batch], state.totals)
        state.batch += 1
        state.step += 1
        state.seconds += perf_counter() - started
        if state.step == 1:
            state.health = layer_health(state.network, epoch=0)
        if state.device.type == "cpu" and state.batch % FINITE_CHECK_BATCHES == 0:
            check_finite(state)
        # After the last batch comes the epoch's result, which looks at that batch's gradients.
        if state.batch < len(batches):
            yield Progress(state.epoch + 1, state.batch, len(batches))


def _set_learning_rate(plan: Plan, state: State) -> None:
    step = 1 / plan.batches
    time = state.epoch + state.batch * step
    factor = warmed_up(state.schedule.factor(time), time, plan.config.training.warmup_epochs, step)
    for group in state.optimizer.param_groups:
        group["lr"] = state.learning_rate = group["initial_lr"] * factor


def check_finite(state: State) -> None:
    """Raise `Diverged` when the loss summed so far is not finite."""
    loss = state.totals.loss.item()
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss is {loss} in epoch {state.epoch + 1} at or before batch {state.batch}, with a learning rate "
            f"of {state.learning_rate:g}; lower it, or set `training.clip_grad_norm` or `training.warmup_epochs`"
        )


def _finish_epoch(plan: Plan, state: State) -> EpochResult:
    started = perf_counter()
    check_finite(state)
    seconds = state.seconds + perf_counter() - started
    images = len(plan.feeds.train)
    sample, validation = (evaluate(state.network, part) for part in (plan.feeds.sample, plan.feeds.validation))
    # Of equals the later epoch counts, as in the book; the test set is read then, and selects nothing.
    is_best = validation.accuracy >= state.best_accuracy
    result = EpochResult(
        epoch=state.epoch + 1,
        step=state.step,
        learning_rate=state.learning_rate,
        train_loss=state.totals.loss.item() / images,
        train_accuracy=state.totals.correct.item() / images,
        sample_loss=sample.loss,
        sample_accuracy=sample.accuracy,
        validation_loss=validation.loss,
        validation_accuracy=validation.accuracy,
        test_accuracy=evaluate(state.network, plan.feeds.test).accuracy if is_best else None,
        best=is_best,
        seconds=seconds,
        images_per_second=images / seconds,
    )
    _advance(plan, state, result)
    return result


def _advance(plan: Plan, state: State, result: EpochResult) -> None:
    """Count the epoch as done, and see whether it was the last."""
    early = plan.config.training.early_stopping
    state.history.append(result)
    state.health += layer_health(state.network, result.epoch)
    state.epoch, state.batch, state.seconds = result.epoch, 0, 0.0
    state.totals = Totals.zero(state.device)
    state.schedule.observe(result.validation_accuracy)
    idle = state.stopping.observe(result.validation_accuracy)
    if result.best:
        state.best_accuracy = result.validation_accuracy
        if early and early.restore_best:
            state.best_weights = {name: value.clone() for name, value in state.network.state_dict().items()}
    state.stopped = _reason_to_stop(plan, state, idle)
    if state.stopped and state.best_weights:
        state.network.load_state_dict(state.best_weights)


def _reason_to_stop(plan: Plan, state: State, idle: int) -> str:
    training = plan.config.training
    if training.early_stopping and idle >= training.early_stopping.patience:
        return f"validation accuracy has not improved for {idle} epochs"
    if state.schedule.finished:
        return state.schedule.finished
    return f"all {training.epochs} epochs are done" if state.epoch >= training.epochs else ""
