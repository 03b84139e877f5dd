"""What runs that are there already began with: if it has changed since, figures of two kinds would be mixed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnntrain.app.configure import edited
from cnntrain.app.display import Display
from cnntrain.app.transfer import named
from cnntrain.errors import CheckpointError, CnntrainError, DataError, UsageError
from cnntrain.run import checkpoint

# The summary of each run, if it is finished.
Runs = Mapping[Path, dict[str, Any] | None]


def check_weights(init_from: str, runs: Runs, display: Display) -> None:
    """Raise `DataError` where runs began with other weights than a config names now.

    Where no run needs weights that are gone, all are taken as they are; so are those of which nothing is known.
    """
    known = {run_dir: _origin(run_dir, summary) for run_dir, summary in runs.items()}
    try:
        now = named(init_from)[1].fingerprint
    except CheckpointError as error:
        if None in known.values():
            raise
        display.say(f"{error}; runs that have begun are taken as they are")
        return
    said = f"the weights of `init_from: {init_from}` have changed since this run began"
    refuse(DataError, {run: said for run, origin in known.items() if origin and origin.get("sha256") != now})


def check_plugins(imported: Mapping[str, str], runs: Runs) -> None:
    """Raise `UsageError` where runs were trained with other plugins than are imported now, by their SHA-256."""
    changed = {}
    for run_dir, summary in runs.items():
        try:
            saved = checkpoint.load(run_dir if summary else _last(run_dir))
        except CheckpointError:  # whoever uses it tells of it
            continue
        changed[run_dir] = edited(saved.plugins, imported)
    refuse(UsageError, changed)


def refuse(error: type[CnntrainError], changed: Mapping[Path, str | None]) -> None:
    """Raise such an error about the runs of which something is said, in the words of the first."""
    others = {str(run_dir): said for run_dir, said in changed.items() if said}
    if others:
        said = next(iter(others.values()))
        raise error(f"{', '.join(others)}: {said}; restore them, or move these runs away to train them again")


def _origin(run_dir: Path, summary: dict[str, Any] | None) -> dict[str, Any] | None:
    """What is known of the weights that a run began with; None where it has yet to begin."""
    if summary is None and not _last(run_dir).is_file():
        return None
    try:
        begun = summary or checkpoint.load(_last(run_dir)).training or {}
    except CheckpointError:  # whoever goes on with it tells of it
        return {}
    return begun.get("init_from") or {}


def _last(run_dir: Path) -> Path:
    return run_dir / "checkpoints" / "last.pt"
