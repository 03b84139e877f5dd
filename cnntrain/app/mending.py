"""Going on where a run stopped: its state as it was saved, and every file as it belongs to that state."""

from __future__ import annotations

from typing import Any

from cnntrain.app.resume import saved_epoch
from cnntrain.app.running import Running
from cnntrain.config.load import to_yaml
from cnntrain.errors import CheckpointError, UsageError, is_out_of_memory
from cnntrain.text import counted


def restore(run: Running, saved: dict[str, Any], is_changed: bool) -> None:
    """Take a saved state, and say where that is; raises `CheckpointError` where it does not fit the config."""
    try:
        run.state.restore(saved)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{run.directory.last}: does not fit the config: {error}") from error
    state, epochs = run.state, run.config.training.epochs
    if is_changed and state.epoch < epochs:
        state.stopped = ""
    if state.stopped:
        setting = "training.epochs=N" if state.epoch >= epochs else "what lets it, as training.early_stopping=null,"
        run.say(f"{run.directory.path}: finished already: {state.stopped}; add {setting} to go on")
    else:
        over = counted(epochs, "epoch")
        run.say(f"resuming after epoch {state.epoch}, batch {state.batch}; schedules run over {over}")


def mend(run: Running, is_changed: bool) -> None:
    """Bring every file to where the state is: a crash may have come between any two of them."""
    _mend_best(run, is_changed)
    if not run.state.stopped:
        run.directory.forget_summary()
    if is_changed:
        run.directory.save_last(run.checkpoint(with_state=True))
    config, path = to_yaml(run.config), run.directory.config
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != config:
        if not is_changed:
            run.warn(f"{path} was not the checkpoint's config, which counts; it is written anew")
        run.directory.write_config(config)
    run.write_rows()


def _mend_best(run: Running, is_changed: bool) -> None:
    """See that `best.pt` is of the best epoch."""
    state, best, there = run.state, run.state.best, saved_epoch(run.directory.best)
    if there == (best.epoch if best else None):
        return
    if best and state.history[-1] is best and not state.batch:
        run.directory.save_best(run.checkpoint(with_state=False))
    elif there and there > state.epoch and is_changed:
        raise UsageError(
            f"{run.directory.best} is of epoch {there}, which is still ahead; resume without changes first"
        )
    elif not there or there <= state.epoch:
        run.warn(f"{run.directory.best} is damaged or missing; it will be written at the next best epoch")
