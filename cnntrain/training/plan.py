"""All that training needs, put together from a config, a network and its data: a plan, and the state it begins in."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from cnntrain.data.batches import Resident, derived_seed
from cnntrain.training.average import Average
from cnntrain.training.engine import Engine, choose
from cnntrain.training.frozen import freeze, set_training
from cnntrain.training.memory import keep_freed_memory
from cnntrain.training.optimizers import Trainable
from cnntrain.training.schedules import NoImprovement
from cnntrain.training.state import State
from cnntrain.training.step import Step, Totals

if TYPE_CHECKING:
    from torch import nn

    from cnntrain.config.schema import Config
    from cnntrain.data.preprocess import Preprocessing
    from cnntrain.training.distributed import Ranks


@dataclass(frozen=True)
class Feeds:
    """The training images on the device, and this rank's part of what is evaluated.

    `sample` is as many training images as validate, unexpanded.
    """

    train: Resident
    sample: Resident
    validation: Resident
    test: Resident


@dataclass(frozen=True)
class Plan:
    """What does not change while a network is trained."""

    config: Config
    feeds: Feeds
    engine: Engine
    # In an epoch; the last may be smaller.
    batches: int


def prepare(config: Config, network: nn.Sequential, classes: int, feeds: Feeds, ranks: Ranks) -> tuple[Plan, State]:
    """A network on its device, ready to be trained from the beginning."""
    training = config.training
    if training.batch_size < ranks.size:
        said = f"a global batch of {training.batch_size} images can't be shared by {ranks.size} processes"
        raise config.error(("training", "batch_size"), said)
    if ranks.device.type == "cpu":
        keep_freed_memory()
    _check_last_batch(config, network, feeds, ranks)
    torch.manual_seed(derived_seed(config.seed, ranks.purpose))
    batches = math.ceil(len(feeds.train) / training.batch_size)
    try:
        optimizer = training.optimizer.make(Trainable(network, training.l2 / batches))
    except ValueError as error:
        raise config.error(("training", "optimizer"), str(error)) from error
    try:
        # The optimizer has all weights, so that its state fits when a run goes on with other layers frozen.
        frozen = freeze(network, training.freeze)
    except ValueError as error:
        raise config.error(("training", "freeze"), str(error)) from error
    parallel = ranks.parallel(network)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    schedule = training.schedule.make(training.epochs)
    min_delta = training.early_stopping.min_delta if training.early_stopping else 0.0
    average = Average(network, training.ema_decay, frozen) if training.ema_decay else None
    totals = Totals.zero(ranks.device)
    state = State(network, optimizer, schedule, ranks, totals, NoImprovement(min_delta), average=average)
    augmentations = [spec.make() for spec in config.data.augment]
    step = Step(
        parallel,
        optimizer,
        feeds.train,
        classes,
        augmentations,
        training.label_smoothing,
        training.clip_grad_norm,
        average=average,
        precision=getattr(torch, training.precision),
    )
    try:
        engine = choose(training.engine, step, ranks.device)
    except ValueError as error:
        raise config.error(("training", "engine"), str(error)) from error
    return Plan(config, feeds, engine, batches), state


def _check_last_batch(config: Config, network: nn.Sequential, feeds: Feeds, ranks: Ranks) -> None:
    """Raise `ConfigError` where an epoch's last batch has too few images for a `batch_norm`."""
    count, size = len(feeds.train), config.training.batch_size
    left, why = count % size or size, ""
    trained = network[config.training.freeze :]
    if left < ranks.size and any(isinstance(layer, _BatchNorm) for layer in trained.modules()):
        why = f"{left}, and `batch_norm` needs one for each of the {ranks.size} processes"
    elif left == 1 and not _takes_one(network, config.training.freeze, feeds.train.preprocessing):
        why = "one, and `batch_norm` can't compute a variance from one"
    if why:
        raise config.error(
            ("training", "batch_size"), f"with {count:,} images, the last batch has {why}; choose another batch size"
        )


def _takes_one(network: nn.Sequential, frozen: int, preprocessing: Preprocessing) -> bool:
    """Whether it can be trained on a single image; tried on a CPU, for a GPU is not to compute before it is set up."""
    one = Resident.black(1, preprocessing, torch.device("cpu"))
    image, _ = one.gather(torch.zeros(1, dtype=torch.int64))
    copy = deepcopy(network).cpu()
    set_training(copy, frozen)
    try:
        with torch.no_grad():
            copy(image)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        return False
    return True
