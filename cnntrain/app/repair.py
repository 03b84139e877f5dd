"""Going on where a run stopped: its state as it was saved, and every file as it belongs to that state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnntrain.app.resume import saved_epoch
from cnntrain.app.running import Running
from cnntrain.config.document import read
from cnntrain.config.load import resolved, to_yaml, up_to_date
from cnntrain.config.schema import Config
from cnntrain.errors import CheckpointError, ConfigError, UsageError, is_out_of_memory
from cnntrain.run import checkpoint
from cnntrain.text import counted
from cnntrain.training.loop import stop_when_done


def restore(run: Running, file: Path, saved: dict[str, Any]) -> None:
    """Take the state that `file` holds; replaces no file.

    Raises `CheckpointError` where the state does not fit the config, and `UsageError` where it can't go on with it.
    """
    try:
        run.state.restore(saved)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{file}: does not fit the config: {error}") from error
    _check_epochs(run)
    _recall_best_weights(run)


def end_or_go_on(run: Running, is_to_go_on: bool) -> None:
    """See whether the run is at its end, which settings may have moved, and say where it is."""
    state, epochs = run.state, run.config.training.epochs
    if is_to_go_on and state.epoch < epochs:
        state.stopped = ""
    stop_when_done(run.config, state)
    if state.stopped:
        setting = (
            "training.epochs=N"
            if state.epoch >= epochs
            else "a setting that allows it, such as training.early_stopping=null,"
        )
        run.display.say(f"{run.directory.path}: finished already: {state.stopped}; add {setting} to go on")
    else:
        over = counted(epochs, "epoch")
        run.display.say(f"resuming after epoch {state.epoch}, batch {state.batch}; schedules run over {over}")


def _check_epochs(run: Running) -> None:
    """Raise `UsageError` for fewer epochs than were begun: what was trained can't be taken back."""
    state = run.state
    begun = state.epoch + (state.batch > 0)
    if run.config.training.epochs < begun:
        how_far = "has begun" if state.batch else "is done"
        raise UsageError(
            f"{run.directory.path}: epoch {begun} {how_far} already; set `training.epochs` to {begun} at least"
        )


def _recall_best_weights(run: Running) -> None:
    """Have the best epoch's weights at hand where training is to end with them, and nowhere else."""
    state, early = run.state, run.config.training.early_stopping
    if early is None or not early.restore_best:
        state.best_weights = {}
    elif state.best and not state.best_weights:
        if state.is_at_best:
            state.keep_best_weights()
        elif saved_epoch(run.directory.best) == state.best.epoch:
            state.best_weights = checkpoint.load(run.directory.best).weights
        else:
            raise UsageError(
                f"{run.directory.best}: is damaged, missing, or not of epoch {state.best.epoch}, the best so far, "
                "so training can't end with its weights; resume without `restore_best`"
            )


def check_best(run: Running, is_changed: bool) -> None:
    """Raise `UsageError` where `best.pt` is of an epoch that will not come again as it was, and can't be replaced."""
    there = saved_epoch(run.directory.best)
    if is_changed and there and there > run.state.epoch and not run.state.is_at_best:
        raise UsageError(
            f"{run.directory.best} is of epoch {there}, later than the state to resume from; "
            "resume without changes first"
        )


def mend_best(run: Running) -> None:
    """See that `best.pt` is of the best epoch: a crash may have come before it was written."""
    state, best, there = run.state, run.state.best, saved_epoch(run.directory.best)
    if there == (best.epoch if best else None):
        return
    if state.is_at_best:
        run.directory.save_best(run.checkpoint(with_state=False))
    elif not there or there <= state.epoch:
        run.display.warn(f"{run.directory.best} is damaged or missing; it will be written at the next best epoch")


def _holds(path: Path, config: Config) -> bool:
    """Whether a file says the same as a config, if in other words, such as those of an earlier version."""
    try:
        return up_to_date(read(path).value) == resolved(config)
    except ConfigError:
        return False


def mend(run: Running, is_changed: bool) -> None:
    """Bring every other file to where the state is: a crash may have come between any two of them."""
    if not run.state.stopped:
        run.directory.forget_summary()
    if is_changed:
        run.directory.save_last(run.checkpoint(with_state=True))
    config, path = to_yaml(run.config), run.directory.config
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != config:
        if not (is_changed or _holds(path, run.config)):
            run.display.warn(f"{path} differed from the checkpoint's config; it is rewritten from the checkpoint")
        run.directory.write_config(config)
    run.write_rows()
