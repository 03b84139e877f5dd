"""Training into a run directory, from the beginning or from where a run stopped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnntrain.app import device as devices
from cnntrain.app.configure import import_plugins
from cnntrain.app.display import Display, Silent
from cnntrain.app.environment import environment
from cnntrain.app.signals import Request, listening
from cnntrain.app.transfer import transfer
from cnntrain.config.load import from_resolved, load, resolved, to_yaml
from cnntrain.config.schema import Config
from cnntrain.data.batches import Resident, Shifted
from cnntrain.data.images import Folders
from cnntrain.data.preprocess import Preprocessing
from cnntrain.data.splits import Splits, duplicates, split
from cnntrain.errors import CheckpointError, DataError, Diverged, Interrupted, UsageError
from cnntrain.network.build import build
from cnntrain.reports.text import epoch_line, percent
from cnntrain.run import checkpoint
from cnntrain.run.checkpoint import Checkpoint
from cnntrain.run.directory import RunDirectory
from cnntrain.training.diagnostics import verdict
from cnntrain.training.loop import Feeds, Plan, check_finite, prepare, train
from cnntrain.training.state import EpochResult, State


@dataclass(frozen=True)
class Where:
    """What a run needs besides its config: where data lies, what to compute on, whose layers to use."""

    data_dir: Path | None = None
    device: str = "auto"
    plugins: Sequence[Path] = ()

    def options(self) -> list[str]:
        """The same as words of a command line."""
        words = ["--data-dir", str(self.data_dir)] if self.data_dir else []
        words += ["--device", self.device] if self.device != "auto" else []
        return words + [word for plugin in self.plugins for word in ("--plugin", str(plugin))]


@dataclass
class _Run:
    """A run under way."""

    config: Config
    splits: Splits
    preprocessing: Preprocessing
    plan: Plan
    state: State
    plugins: dict[str, str]
    where: Where
    directory: RunDirectory
    display: Display

    def say(self, line: str) -> None:
        self.display.say(line)
        self.directory.log(line)

    def warn(self, line: str) -> None:
        self.display.warn(line)
        self.directory.log(f"warning: {line}")

    def checkpoint(self, with_state: bool) -> Checkpoint:
        result = self.state.history[-1] if self.state.history else None
        return Checkpoint(
            config=resolved(self.config),
            classes=list(self.splits.classes),
            preprocessing=self.preprocessing.to_dict(),
            weights=self.state.network.state_dict(),
            result=asdict(result) if result else None,
            data=_fingerprints(self.splits),
            plugins=self.plugins,
            training=self.state.save() if with_state else None,
        )


def train_run(config: Config, run_dir: Path, where: Where, display: Display | None = None) -> dict[str, Any]:
    """Train a config into a new run directory; gives the content of its `summary.json`.

    Raises `Interrupted` after a signal, when the state is saved, and `Diverged` when the loss is
    no longer finite.
    """
    display = display or Silent()
    prepared = _prepare(config, where)
    with closing(RunDirectory.create(run_dir, to_yaml(config))) as directory:
        return _begin(_Run(*prepared, where, directory, display))


def resume_run(run_dir: Path, overrides: Sequence[str], where: Where, display: Display | None = None) -> dict[str, Any]:
    """Go on with a run to the same bits as if it had never stopped; gives its summary.

    Overrides change its config: with more `training.epochs` a finished run goes on. A run that was
    cut off before its first checkpoint begins again.
    """
    display = display or Silent()
    import_plugins(where.plugins)
    with closing(RunDirectory.open(run_dir)) as directory:
        if not directory.last.is_file():
            config = load(directory.config, overrides)
            return _begin(_Run(*_prepare(config, where), where, directory, display))
        saved = checkpoint.load(directory.last)
        if saved.training is None:
            raise CheckpointError(f"{directory.last}: holds no training state to resume from")
        config = from_resolved(saved.config, overrides)
        _check_changes(from_resolved(saved.config), config, in_epoch=saved.training["batch"] > 0)
        run = _Run(*_prepare(config, where), where, directory, display)
        if _fingerprints(run.splits) != saved.data:
            raise DataError(f"{run_dir}: the data has changed since this run began, so it can't be resumed exactly")
        _restore(run, saved.training, is_changed=bool(overrides))
        if overrides:
            directory.write_config(to_yaml(config))
        return _train(run)


def _begin(run: _Run) -> dict[str, Any]:
    """Train from the first epoch on."""
    if run.config.init_from is not None:
        run.say(transfer(Path(run.config.init_from), run.state.network))
    return _train(run)


def _check_changes(before: Config, after: Config, in_epoch: bool) -> None:
    """Raise `UsageError` for a change that the saved state does not fit."""
    fixed = ["seed", "data", "network", "init", "dropout_scaling"]
    changed = [key for key in fixed if getattr(before, key) != getattr(after, key)]
    if before.training.optimizer.name != after.training.optimizer.name:
        changed.append("training.optimizer")
    if in_epoch:
        keys = ["batch_size", "shuffle"]
        changed += [f"training.{key}" for key in keys if getattr(before.training, key) != getattr(after.training, key)]
    if changed:
        raise UsageError(f"a run can't be resumed with another {', '.join(changed)}; begin a new run instead")


def _restore(run: _Run, saved: dict[str, Any], is_changed: bool) -> None:
    try:
        run.state.restore(saved)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{run.directory.last}: does not fit the config: {error}") from error
    state, epochs = run.state, run.config.training.epochs
    if is_changed and state.epoch < epochs:
        state.stopped = ""
    if state.stopped:
        run.say(f"{run.directory.path}: finished already: {state.stopped}; add training.epochs=N to go on")
    else:
        run.say(f"resuming after epoch {state.epoch}, batch {state.batch}; schedules run over {epochs} epochs")


def _prepare(config: Config, where: Where) -> tuple[Config, Splits, Preprocessing, Plan, State, dict[str, str]]:
    device = devices.choose(where.device)
    plugins = import_plugins(where.plugins)
    splits = split(config.data.source.make(Folders.standard(where.data_dir)), config.data)
    preprocessing = Preprocessing.of(splits.train, config.data.normalize)
    network = build(config, preprocessing.shape, len(splits.classes)).to(device)
    feeds = Feeds(
        (Shifted if config.data.expand else Resident).of(splits.train, preprocessing, device),
        Resident.of(splits.train.take(slice(0, len(splits.validation))), preprocessing, device),
        Resident.of(splits.validation, preprocessing, device),
        Resident.of(splits.test, preprocessing, device),
    )
    plan, state = prepare(config, network, feeds, device)
    return config, splits, preprocessing, plan, state, plugins


def _introduce(run: _Run) -> None:
    channels, height, width = run.preprocessing.shape
    splits, parameters = run.splits, _count_parameters(run.state)
    run.say(f"run directory: {run.directory.path}")
    run.say(
        f"{len(splits.train):,} training, {len(splits.validation):,} validation, {len(splits.test):,} test images "
        f"of {height}x{width}x{channels} in {len(splits.classes)} classes; {parameters:,} parameters; "
        + devices.describe(run.state.device)
    )
    same = duplicates(splits)
    if same:
        run.warn(f"{same:,} test images are also among the training images")


def _count_parameters(state: State) -> int:
    return sum(parameter.numel() for parameter in state.network.parameters())


def _train(run: _Run) -> dict[str, Any]:
    _introduce(run)
    with listening() as request:
        try:
            _iterate(run, request)
        except Diverged as error:
            raise Diverged(_with_last_good(run, str(error))) from error
    return _finish(run)


def _iterate(run: _Run, request: Request) -> None:
    for item in train(run.plan, run.state):
        if isinstance(item, EpochResult):
            _keep(run, item)
        else:
            epochs, before = run.config.training.epochs, (item.epoch - 1) * item.batches
            run.display.progress(before + item.batch, epochs * item.batches, f"epoch {item.epoch}/{epochs}")
        if request.signal and not run.state.stopped:
            _interrupt(run, request.signal)


def _keep(run: _Run, result: EpochResult) -> None:
    # `last` comes after `best`, so that a resumed run finds a best checkpoint that is not behind it.
    if result.best:
        run.directory.save_best(run.checkpoint(with_state=False))
    run.directory.save_last(run.checkpoint(with_state=True))
    run.directory.write_rows("metrics.csv", run.state.history)
    run.directory.write_rows("diagnostics.csv", run.state.health)
    run.say(epoch_line(result, run.config.training.epochs))


def _interrupt(run: _Run, signal: str) -> None:
    check_finite(run.state)
    run.directory.save_last(run.checkpoint(with_state=True))
    command = shlex.join(["cnntrain", "train", "--resume", str(run.directory.path), *run.where.options()])
    run.directory.log(f"interrupted by {signal}; resume with: {command}")
    raise Interrupted(f"interrupted by {signal}; the state is saved. Resume with:\n  {command}")


def _with_last_good(run: _Run, message: str) -> str:
    run.directory.log(message)
    if not run.directory.last.exists():
        return f"{message}. No epoch was finished, so there is no checkpoint"
    return f"{message}. The state after the last good epoch is kept in {run.directory.last}"


def _finish(run: _Run) -> dict[str, Any]:
    best, last, judged = run.state.best, run.state.history[-1], verdict(run.state.history)
    summary = {
        "run_dir": str(run.directory.path),
        "stopped": run.state.stopped,
        "epochs": run.state.epoch,
        "best": asdict(best) if best else None,
        "last": asdict(last),
        "verdict": asdict(judged),
        "seconds": sum(result.seconds for result in run.state.history),
        "seed": run.config.seed,
        "device": devices.describe(run.state.device),
        "parameters": _count_parameters(run.state),
        "images": {
            "train": len(run.splits.train),
            "validation": len(run.splits.validation),
            "test": len(run.splits.test),
        },
        "data": _fingerprints(run.splits),
        "environment": environment(),
    }
    run.directory.write_summary(summary)
    if best and best.test_accuracy is not None:
        run.say(
            f"{run.state.stopped}; best validation accuracy {percent(best.validation_accuracy)} in epoch {best.epoch}, "
            f"test accuracy there {percent(best.test_accuracy)}"
        )
    run.say(judged.text)
    return summary


def _fingerprints(splits: Splits) -> dict[str, str]:
    return {name: getattr(splits, name).fingerprint for name in ("train", "validation", "test")}
