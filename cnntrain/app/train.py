"""Training into a run directory, from the beginning or from where a run stopped."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from cnntrain.app import device as devices
from cnntrain.app.account import finish, introduce
from cnntrain.app.configure import edited, import_plugins
from cnntrain.app.display import Display, Logged, Silent
from cnntrain.app.failures import explained
from cnntrain.app.interval import Interval
from cnntrain.app.launched import is_launched
from cnntrain.app.preparation import Prepared, prepared
from cnntrain.app.ranks import directory_of, joined
from cnntrain.app.repair import check_best, end_or_go_on, mend, mend_best, restore
from cnntrain.app.resume import check_changes, check_data, config_of, is_lifted, learns_otherwise, load_state
from cnntrain.app.running import Running
from cnntrain.app.signals import Listening, Request, listening
from cnntrain.app.transfer import begin_with
from cnntrain.app.where import Where
from cnntrain.config.load import from_resolved, load, to_yaml
from cnntrain.config.schema import Config
from cnntrain.data.preprocess import Preprocessing
from cnntrain.errors import CheckpointError, Interrupted, Paused, UsageError
from cnntrain.reports.text import epoch_line
from cnntrain.run.directory import RunDirectory
from cnntrain.text import as_command
from cnntrain.training.distributed import Ranks
from cnntrain.training.loop import Progress, Remark, RolledBack, settle, train
from cnntrain.training.rows import EpochResult

# Held by the thread that trains.
_trains = threading.RLock()
_is_forked = False


def _let_go() -> None:
    """In a process that was forked while another thread trained, nothing does."""
    global _trains, _is_forked
    _trains, _is_forked = threading.RLock(), True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)

# What ranks ask each other for, besides an end by a signal.
SAVE = "save"

# Yields how much of its epochs is done, whenever another run may have its turn, and returns what `summary.json` holds.
# Whoever throws `Paused` into it may go on with it later, also in another process.
Training = Generator[float, None, dict[str, Any]]


def train_run(
    config: Config, run_dir: str | Path, where: Where, display: Display | None = None, or_beside: bool = False
) -> dict[str, Any]:
    """Train a config into a new run directory, `or_beside` it if it exists; gives the content of its `summary.json`.

    Raises `Interrupted` after a signal, when the state is saved, and `Diverged` when the loss is
    no longer finite.
    """
    return run_to_end(train_stepwise(config, Path(run_dir), where, display, or_beside=or_beside))


def resume_run(
    run_dir: str | Path, overrides: Sequence[str], where: Where, display: Display | None = None, force: bool = False
) -> dict[str, Any]:
    """Go on with a run to the same bits as if it had never stopped; gives its summary.

    Overrides change its config: with more `training.epochs` a finished run goes on. A run that was
    cut off before its first checkpoint begins again. A checkpoint of a run in the place of its
    directory goes on from there. Raises `DataError` where the data has changed, unless forced.
    """
    return run_to_end(resume_stepwise(Path(run_dir), overrides, where, display, force))


def train_stepwise(
    config: Config,
    run_dir: Path,
    where: Where,
    display: Display | None,
    listened: Listening | None = None,
    or_beside: bool = False,
) -> Training:
    """What `train_run` does, step by step; who has other runs besides says how signals are `listened` to."""
    with joined(where.device) as ranks:
        display = Logged(_heard(display, ranks))
        given = prepared(config, where, ranks, display)
        origin = _transferred(given)
        with closing(directory_of(ranks).create(run_dir, to_yaml(config), or_beside)) as directory:
            display.begin(directory.log)
            return (yield from _train(Running(given, where, directory, display, listened), origin))


def resume_stepwise(
    run_dir: Path,
    overrides: Sequence[str],
    where: Where,
    display: Display | None,
    force: bool = False,
    listened: Listening | None = None,
) -> Training:
    """What `resume_run` does, step by step; who has other runs besides says how signals are `listened` to."""
    if run_dir.is_file() and run_dir.suffix != ".pt" and (run_dir.parent / "checkpoints").is_dir():
        raise UsageError(f"{run_dir}: not a checkpoint; name the run, {run_dir.parent}")
    file = _reaching_up(run_dir) if run_dir.is_file() else None
    with joined(where.device) as ranks:
        display = Logged(_heard(display, ranks))
        import_plugins(where.plugins)
        with closing(directory_of(ranks).open(file.parent.parent if file else run_dir)) as directory:
            display.begin(directory.log)
            if directory.left_by:
                who = f"process {directory.left_by}"
                display.say(f"{who} ended without closing this run; continuing where it stopped")
            if file is None and not directory.last.is_file() and not directory.previous.is_file():
                if directory.best.is_file():
                    said = "`last.pt` and `previous.pt` are missing, so the run can't be resumed; start a new one"
                    raise UsageError(
                        f"{directory.last.parent}: {said}, with `init_from: {directory.best}` to keep its weights"
                    )
                config = load(directory.config, overrides)
                run = Running(prepared(config, where, ranks, display), where, directory, display, listened)
                origin = _transferred(run.given)
                directory.write_config(to_yaml(config))
                return (yield from _train(run, origin))
            run = _restored(directory, file or directory.last, overrides, where, ranks, display, force)
            run.listened = listened
            return (yield from _train(run))


def _reaching_up(file: Path) -> Path:
    """The path of a checkpoint as it is given, or whole where it does not name the run directory."""
    return file if len(file.parts) > 2 and ".." not in file.parts else Path(os.path.abspath(file))


def run_to_end(training: Training, until: float = 1) -> dict[str, Any]:
    """The summary, after all steps are done; where only so much is to be done, raises `Paused`, with the run saved."""
    # Whose program it is draws random numbers of its own on the CPU.
    with only_thread(), closing(training), torch.random.fork_rng(devices=[]), devices.float32_by_default():
        while True:
            try:
                part = next(training)
            except StopIteration as end:
                summary: dict[str, Any] = end.value
                return summary
            if until < 1 and part >= until:
                training.throw(Paused())


@contextmanager
def only_thread() -> Iterator[None]:
    """Train in this thread; raises `UsageError` where another does: all draw from one generator of random numbers."""
    trains = _trains
    if _is_forked:
        # A fork has none of its parent's other threads, and would wait for them for ever.
        torch.set_num_threads(1)
    if not trains.acquire(blocking=False):
        said = "another thread of this process is training, and both would draw from the same random numbers"
        raise UsageError(f"{said}; train one run after the other, or in several processes")
    try:
        yield
    finally:
        trains.release()


def _heard(display: Display | None, ranks: Ranks) -> Display:
    """Only rank 0 speaks."""
    return display if display and ranks.rank == 0 else Silent()


def _restored(
    directory: RunDirectory,
    file: Path,
    overrides: Sequence[str],
    where: Where,
    ranks: Ranks,
    display: Display,
    force: bool,
) -> Running:
    """A run as a checkpoint has it."""
    saved = load_state(directory, file)
    assert saved.training is not None
    before, config = config_of(saved, file, where.plugins), from_resolved(saved.config, overrides)
    check_changes(before, config, in_epoch=saved.training["batch"] > 0)
    try:
        known = Preprocessing.from_dict(saved.preprocessing)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: {error}") from error
    run = Running(prepared(config, where, ranks, display, known), where, directory, display)
    changed = check_data(saved, run.splits, force)
    restore(run, file, saved.training)
    is_other = learns_otherwise(before, config, run.state.step / run.given.plan.batches)
    end_or_go_on(run, is_other or config.training.epochs > before.training.epochs)
    if is_other and saved.training["stopped"] and run.state.stopped:
        raise UsageError(f"{directory.path}: nothing is left to be trained with {as_command(overrides)}")
    check_best(run, is_changed=bool(overrides or changed))
    # From here on nothing is refused, and files may be replaced.
    if file != directory.last:
        directory.go_back_to(file)
    mend_best(run)
    at = f"after epoch {run.state.epoch}, batch {run.state.batch}"
    if is_other or is_lifted(saved, run.state):
        run.state.changes += (f"{at}: {as_command(overrides)}",)
    change = edited(saved.plugins, run.given.plugins)
    if change:
        run.state.changes += (f"{at}: {change}",)
        run.display.warn(change)
    if changed:
        run.state.changes += (f"{at}: {changed}",)
        run.display.warn(f"{changed}; continuing because of `--force`")
        run.state.begin_epoch_again()
    mend(run, is_changed=bool(overrides or changed))
    return run


def _transferred(given: Prepared) -> str | None:
    """Begin with the weights of `init_from`, where the config has it; gives what is to be said of it."""
    source = given.config.init_from
    if source is None:
        return None
    return begin_with(source, given)


def _train(run: Running, origin: str | None = None) -> Training:
    """Train to the end; `origin` is what is to be said of the weights that it begins with."""
    with explained(run.directory, _resume_command(run)):
        if origin is not None:
            run.display.say(origin)
        introduce(run)
        listened = run.listened or listening(may_hear_twice=is_launched())
        with devices.deterministic(run.config.training.deterministic), listened as request:
            yield from _iterate(run, request)
        return finish(run)


def _iterate(run: Running, request: Request) -> Iterator[float]:
    interval = Interval(run.config.training.checkpoint_every, run.state.step)
    for item in train(run.given.plan, run.state):
        if isinstance(item, EpochResult):
            _keep(run, item)
            interval.begin(run.state.step)
        elif isinstance(item, RolledBack):
            _tell_of(run, item)
            interval.begin(run.state.step)
        elif isinstance(item, Remark):
            run.display.say(item.text)
            # A rank can have one alone, and below all ask each other.
            continue
        else:
            _show(run, item)
        asked = run.state.ranks.agree(request.signal or (SAVE if interval.is_over(run.state.step) else None))
        if asked == SAVE:
            _save_within(run)
            interval.begin(run.state.step)
        elif asked and not run.state.stopped:
            _interrupt(run, asked)
        try:
            yield run.part
        except Paused:
            if not run.state.stopped:
                _save_within(run)
            raise


def _show(run: Running, at: Progress) -> None:
    """Move the bar over all epochs; it stays while the last one is evaluated."""
    epochs, what = run.config.training.epochs, ", evaluation" if at.batch == at.batches else ""
    done, total = (at.epoch - 1) * at.batches + at.batch, epochs * at.batches
    run.display.progress(min(done, total - 1), total, f"epoch {at.epoch}/{epochs}{what}")


def _keep(run: Running, result: EpochResult) -> None:
    # `best` comes after `last`: a resumed run can write it again from there, and it is never ahead of the state.
    run.directory.save_last(run.checkpoint(with_state=True))
    if result.best:
        run.directory.save_best(run.checkpoint(with_state=False))
    run.write_rows()
    if run.state.stopped:
        total = run.config.training.epochs * run.given.plan.batches
        run.display.progress(total, total, "all epochs")
    run.display.say(epoch_line(result, run.config.training.epochs, run.config.training.monitor))


def _save_within(run: Running) -> None:
    """Save the state in the middle of an epoch."""
    rolled_back = settle(run.given.plan, run.state)
    if rolled_back:
        _tell_of(run, rolled_back)
    run.directory.save_last(run.checkpoint(with_state=True))
    run.write_rows()


def _tell_of(run: Running, rollback: RolledBack) -> None:
    where = f"epoch {rollback.epoch + 1} begins again with {rollback.factor:g} times the learning rate"
    run.display.warn(f"{rollback.why}; rolled back: {where}")


def _interrupt(run: Running, signal: str) -> None:
    _save_within(run)
    command = _resume_command(run)
    run.directory.log(f"interrupted by {signal}; resume with: {command}")
    raise Interrupted(f"interrupted by {signal}; the state is saved. Resume with:\n  {command}")


def _resume_command(run: Running) -> str:
    return as_command([*run.state.ranks.command(), "--resume", str(run.directory.path), *run.where.options()])
