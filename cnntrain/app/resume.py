"""What a run must pass before it goes on: a whole state, a config that fits it, the data that it was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnntrain.app.configure import forgotten
from cnntrain.config.load import from_resolved, resolved
from cnntrain.config.schema import Config
from cnntrain.data.splits import Splits
from cnntrain.errors import CheckpointError, ConfigError, DataError, UsageError
from cnntrain.run import checkpoint
from cnntrain.run.content import Checkpoint
from cnntrain.run.directory import RunDirectory
from cnntrain.training.state import State


def load_state(directory: RunDirectory, file: Path) -> Checkpoint:
    """The checkpoint to go on from; raises `CheckpointError` that offers the one before it where that is whole."""
    try:
        saved = checkpoint.load(file)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_offer(directory, file)}") from error
    if saved.training is None:
        raise CheckpointError(f"{file}: holds no training state to resume from")
    return saved


def config_of(saved: Checkpoint, file: Path, plugins: Sequence[Path]) -> Config:
    """The config that a run was trained with so far; raises `CheckpointError` where it isn't understood."""
    try:
        return from_resolved(saved.config)
    except ConfigError as error:
        hint = forgotten(saved.plugins, plugins)
        raise CheckpointError(f"{file}: its config does not fit this program: {error}{hint}") from error


def _offer(directory: RunDirectory, file: Path) -> str:
    if file == directory.previous:
        return ""
    try:
        before = checkpoint.load(directory.previous).training
    except CheckpointError:
        before = None
    if before is None:
        return f"; no other state of this run is intact, so start a new run from {directory.config}"
    where = f"after epoch {before['epoch']}, batch {before['batch']}"
    return (
        f". The previous one, {where}, is intact; resume from it with:\n  cnntrain train --resume {directory.previous}"
    )


def saved_epoch(file: Path) -> int | None:
    """The epoch whose end a checkpoint holds; None where it is missing, damaged or of none."""
    try:
        result = checkpoint.load(file).result
    except CheckpointError:
        return None
    return int(result["epoch"]) if result else None


def learns_otherwise(before: Config, after: Config, done: float) -> bool:
    """Whether one config trains another network than the other, or would have until so many epochs were `done`."""

    def what_is_learned(config: Config) -> dict[str, Any]:
        data = config.data.model_copy(update={"memory_budget": None})
        training = config.training.model_copy(update={"checkpoint_every": None, "epochs": after.training.epochs})
        return resolved(config.model_copy(update={"data": data, "training": training, "expect": None}))

    def factors(config: Config) -> list[float]:
        schedule = config.training.schedule.make(config.training.epochs)
        count = math.ceil(2 * done) + 1
        return [schedule.factor(done * part / count) for part in range(count)]

    # Most schedules stretch with the number of epochs; a run of a constant learning rate is only longer.
    return what_is_learned(before) != what_is_learned(after) or factors(before) != factors(after)


def is_lifted(saved: Checkpoint, state: State) -> bool:
    """Whether a run goes on from where it would have ended anyhow, or from the weights of an epoch before the last."""
    if saved.training is None or not saved.training["stopped"] or state.stopped:
        return False
    early = from_resolved(saved.config).training.early_stopping
    ran_out = early is not None and state.stopping.epochs >= early.patience
    went_back = bool(saved.training["best_weights"]) and state.history[-1] is not state.best
    return ran_out or bool(state.schedule.finished) or went_back


def check_changes(before: Config, after: Config, in_epoch: bool) -> None:
    """Raise `UsageError` for a change that the saved state does not fit."""
    # Where images lie does not change what is learned from them.
    before, after = (
        one.model_copy(update={"data": one.data.model_copy(update={"memory_budget": None})}) for one in (before, after)
    )

    def differing(*keys: str) -> list[str]:
        return [f"training.{key}" for key in keys if getattr(before.training, key) != getattr(after.training, key)]

    fixed = ["seed", "data", "network", "init", "init_from", "dropout_scaling"]
    changed = [key for key in fixed if getattr(before, key) != getattr(after, key)]
    if before.training.optimizer.name != after.training.optimizer.name:
        changed.append("training.optimizer")
    changed += differing("monitor", "ema_decay")
    if changed:
        raise UsageError(f"{', '.join(changed)} can't change when a run is resumed; begin a new run instead")
    changed = differing("batch_size", "shuffle") if in_epoch else []
    if changed:
        said = f"{', '.join(changed)} can't change when a run is resumed within an epoch, only at the end of one"
        raise UsageError(f"{said}; begin a new run instead")


def check_data(saved: Checkpoint, splits: Splits, force: bool) -> str | None:
    """What is no longer as it was when the run began; raises `DataError` for it unless forced.

    Other classes, or images of another shape, are refused in any case: they don't fit the network.
    """
    if list(splits.classes) != saved.classes:
        raise DataError(f"the classes were {', '.join(saved.classes)}, and are {', '.join(splits.classes)} now")
    said = what_changed(saved.data, splits)
    if said is None:
        return None
    if splits.train.pixels.shape[1:] != tuple(saved.preprocessing["shape"]):
        raise DataError(f"{said}, and so has the images' shape")
    if not force:
        raise DataError(f"{said}, so it can't be resumed exactly; restore them, or continue anyway with `--force`")
    return said


def what_changed(before: Mapping[str, str], splits: Splits) -> str | None:
    """Which splits have other fingerprints than when a run began, in words."""
    found = splits.fingerprints()
    changed = [name for name in found if before.get(name) != found[name]]
    return f"the {' and '.join(changed)} images or labels have changed since this run began" if changed else None
