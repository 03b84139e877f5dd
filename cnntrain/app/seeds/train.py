"""One run for each of several seeds, side by side: on a CPU in processes of one thread each, on a GPU in turns in one.

Small networks gain little from a second thread, so that independent runs use the cores better. A GPU works on
what one process has launched at a time, so that there all runs share a process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnntrain.app import device as devices
from cnntrain.app.configure import import_plugins
from cnntrain.app.display import Display, Silent
from cnntrain.app.resume import what_changed
from cnntrain.app.seeds.beginnings import check_plugins, check_weights, refuse
from cnntrain.app.seeds.interleaved import work_in_turns
from cnntrain.app.seeds.run import Failure, SeedRuns
from cnntrain.app.seeds.workers import work
from cnntrain.app.where import Where
from cnntrain.config.load import load, resolved
from cnntrain.config.schema import SEEDS, Config
from cnntrain.data.images import Folders
from cnntrain.data.splits import split
from cnntrain.errors import CheckpointError, CnntrainError, DataError, Interrupted, UsageError
from cnntrain.run import checkpoint
from cnntrain.run.summary import read_summary


def train_seeds(
    config: Config, seeds: Sequence[int], root: str | Path, where: Where, jobs: int, display: Display | None = None
) -> list[dict[str, Any]]:
    """Train one run a seed into `root/seed-<n>`, `jobs` at once; gives their summaries in the order of `seeds`.

    A finished run is taken as it is, an interrupted one goes on. Raises `UsageError` for a number that no config
    takes as its seed, and where a run there has another config or other plugins, `DataError` where it had other data or
    began with other weights; when a run fails the others go on, and then `CnntrainError` is raised.
    """
    root = Path(root)
    if not all(seed in SEEDS for seed in seeds):
        raise UsageError(f"a seed is a whole number from 0 to {SEEDS.stop - 1:,}")
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root}: is a file; name a folder with `--run-dir`")
    runs = SeedRuns(display or Silent(), len(seeds))
    configs = {seed: config.model_copy(update={"seed": seed}) for seed in seeds}
    summaries = {seed: _finished(root / f"seed-{seed}", one) for seed, one in configs.items()}
    finished = {seed: summary for seed, summary in summaries.items() if summary}
    waiting = [(seed, one) for seed, one in configs.items() if seed not in finished]
    there = {root / f"seed-{seed}": summary for seed, summary in summaries.items()}
    if where.plugins:
        check_plugins(import_plugins(where.plugins), there)
    if config.init_from is not None:
        check_weights(config.init_from, there, runs.display)
    _check_data(finished, config, root, Folders.standard(where.data_dir, runs.display), is_needed=bool(waiting))
    for seed, summary in finished.items():
        runs.hear("summary", seed, summary)
        runs.hear("say", seed, "finished already")
        for remark in summary.get("remarks", ()):
            runs.hear("warn", seed, remark)
    signal_heard = (work_in_turns if _can_share(config, where) else work)(waiting, root, where, jobs, runs)
    if signal_heard:
        again = "repeating the command continues from there"
        raise Interrupted(f"interrupted by {signal_heard}; what was trained is saved, and {again}")
    if runs.failures:
        raise _in_one(runs.failures)
    return [runs.summaries[seed] for seed in seeds]


def _in_one(failures: Mapping[int, Failure]) -> CnntrainError:
    """An error that tells of all, with the exit code that they agree on."""
    seeds: dict[str, list[int]] = {}
    for seed, failure in sorted(failures.items()):
        seeds.setdefault(failure.why, []).append(seed)
    lines = (f"seed{'s' * (len(of) > 1)} {', '.join(map(str, of))}: {why}" for why, of in seeds.items())
    error, codes = CnntrainError("\n".join(lines)), {failure.exit_code for failure in failures.values()}
    if len(codes) == 1:
        error.exit_code = codes.pop()
    return error


def _finished(run_dir: Path, config: Config) -> dict[str, Any] | None:
    """The summary of a finished run of the same config, which may have moved; claims may differ."""
    if not (run_dir / "config.yaml").is_file():
        if run_dir.exists():
            raise UsageError(f"{run_dir}: exists already, and is not a run; move it away, or name another `--run-dir`")
        return None
    if but_for_claims(load(run_dir / "config.yaml")) != but_for_claims(config):
        raise UsageError(f"{run_dir}: holds a run of another config; move it away")
    summary = read_summary(run_dir)
    changes = summary["changes"] if summary else _changes_so_far(run_dir / "checkpoints" / "last.pt")
    if changes:
        raise UsageError(
            f"{run_dir}: does not match its config, because it was resumed with other settings "
            f"({'; '.join(changes)}); move it away"
        )
    return summary and {**summary, "run_dir": str(run_dir)}


def but_for_claims(config: Config) -> dict[str, Any]:
    """All that a run depends on."""
    return resolved(config.model_copy(update={"expect": None}))


def _check_data(
    finished: Mapping[int, dict[str, Any]], config: Config, root: Path, folders: Folders, is_needed: bool
) -> None:
    """Raise `DataError` for data that can't be read, once for all runs, and where finished ones had other data.

    Where nothing `is_needed` of data that is gone, finished runs are taken as they are.
    """
    try:
        splits = split(config.data.source.make(folders), config.data)
    except DataError as error:
        if is_needed:
            raise
        folders.reporter.say(f"{error}; finished runs are taken as they are")
        return
    changed = {root / f"seed-{seed}": what_changed(summary["data"], splits) for seed, summary in finished.items()}
    refuse(DataError, changed)


def _changes_so_far(last: Path) -> Sequence[str]:
    """With what an unfinished run was resumed."""
    try:
        training = checkpoint.load(last).training
    except CheckpointError:  # whoever goes on with it tells of it
        return ()
    return list(training.get("changes", ())) if training else ()


def _can_share(config: Config, where: Where) -> bool:
    """Whether the runs can take turns in one process; choosing deterministic algorithms is a whole process's choice."""
    return devices.choose(where.device).type == "cuda" and not config.training.deterministic
