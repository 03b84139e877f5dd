"""Whether a run directory is sound: every file whole, all of them telling the same story, and the run fit to go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cnntrain import atomic
from cnntrain.app.configure import forgotten, load_config
from cnntrain.app.model import load_model
from cnntrain.app.where import Where
from cnntrain.config.load import resolved, up_to_date
from cnntrain.errors import CheckpointError, ConfigError, UsageError
from cnntrain.files import as_paths
from cnntrain.run import checkpoint
from cnntrain.run.content import Checkpoint
from cnntrain.run.directory import as_csv, check_links, last_words
from cnntrain.run.owner import left_by, writer_of
from cnntrain.run.summary import parsed
from cnntrain.text import as_command
from cnntrain.training.rows import EpochResult, LayerHealth, measured

NAME_PLUGINS = "name the plugins that the run was trained with: --plugin FILE"
# The files of rows: what a state calls them, and what a row is.
ROWS: dict[str, tuple[str, Any]] = {"metrics": ("history", EpochResult), "diagnostics": ("health", LayerHealth)}


@dataclass(frozen=True)
class Problem:
    """What is wrong, and what mends it."""

    what: str
    fix: str


@dataclass(frozen=True)
class Examination:
    """Where a run stands, in words; everything wrong with it; notes on what needs no mending."""

    run_dir: str
    status: str
    problems: list[Problem]
    notes: list[str]


def examine(run_dir: str | Path, plugins: str | Path | Sequence[str | Path] = ()) -> Examination:
    """Examine a run directory without changing it; raises `UsageError` for a folder that is none."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir() or not ((run_dir / "config.yaml").is_file() or (run_dir / "checkpoints").is_dir()):
        raise UsageError(f"{run_dir}: not a run directory: it has neither `config.yaml` nor `checkpoints`")
    check_links(run_dir)
    run = _Run(run_dir, as_paths(plugins))
    writer = writer_of(run_dir)
    problems = [*run.checkpoints()]
    if writer is None:
        # While somebody writes, one file may be ahead of another.
        problems += [*run.config(), *run.rows(), *run.summary()]
    return Examination(str(run_dir), run.status(writer), problems, [*run.notes(writer)])


class _Run:
    """A run directory and what of its checkpoints can be read."""

    def __init__(self, run_dir: Path, plugins: Sequence[Path]) -> None:
        self.run_dir = run_dir
        self.plugins = plugins
        # Known when the checkpoints have been looked at.
        self.lacks_plugins = False
        self.resume = self._resume(run_dir)
        self.files = {name: run_dir / "checkpoints" / f"{name}.pt" for name in ("last", "previous", "best")}
        self.damage: dict[str, str] = {}
        self.saved: dict[str, Checkpoint] = {}
        for name, file in self.files.items():
            if file.exists():
                self._read(name, file)
        last = self.saved.get("last")
        self.state: dict[str, Any] = (last and last.training) or {}

    def _read(self, name: str, file: Path) -> None:
        try:
            self.saved[name] = checkpoint.load(file)
        except CheckpointError as error:
            self.damage[name] = str(error)

    def status(self, writer: str | None) -> str:
        """Finished, being written, or where a resumed run would begin."""
        if writer:
            return f"being written by {writer}"
        if self.state.get("stopped"):
            return f"finished: {self.state['stopped']}"
        if self.state:
            where = f"epoch {self.state['epoch']}, batch {self.state['batch']}"
            return f"not finished; continue after {where} with: {self.resume}"
        if self.files["last"].exists() or self._has_been_saved():
            return "can't be resumed"
        return f"no checkpoint yet; begins with: {self.resume}"

    def _has_been_saved(self) -> bool:
        """Whether there is anything that comes after the first state; `best.pt` alone is in nobody's way."""
        return self.files["previous"].exists() or (self.run_dir / "metrics.csv").is_file()

    def checkpoints(self) -> Iterator[Problem]:
        """Checksums, a state to go on from, weights that fit the config and are finite."""
        for name, said in self.damage.items():
            yield Problem(said, self._instead_of(name))
        if not self.files["last"].exists() and self._has_been_saved():
            yield Problem(f"{self.files['last']}: missing", self._instead_of("last"))
        if self.saved.get("last") and not self.state:
            yield Problem(f"{self.files['last']}: holds no training state", self._instead_of("last"))
        for name, saved in self.saved.items():
            yield from self._weights(name, saved)
        if self.state:
            yield from self._best()

    def _instead_of(self, name: str) -> str:
        """How to do without a checkpoint that is of no use."""
        again = self._train(str(self.run_dir / "config.yaml"))
        if name == "previous":
            return "none needed: the next checkpoint replaces it"
        if name == "best":
            is_lost = self.state.get("stopped") and not self.state["history"][-1]["best"]
            lost = f"its epoch was not the last and can't be recovered; evaluate {self.files['last']}, or train again"
            return f"{lost}: {again}" if is_lost else self.resume
        return self._resume(self.files["previous"]) if "previous" in self.saved else f"begin again with: {again}"

    def _resume(self, path: Path) -> str:
        return self._train("--resume", str(path))

    def _train(self, *words: str) -> str:
        return as_command(["cnntrain", "train", *words, *Where(plugins=self.plugins).options()])

    def _weights(self, name: str, saved: Checkpoint) -> Iterator[Problem]:
        file = self.files[name]
        try:
            load_model(file, Where(device="cpu", plugins=self.plugins))
        except CheckpointError as error:
            self.lacks_plugins |= bool(forgotten(saved.plugins, self.plugins))
            yield Problem(str(error), NAME_PLUGINS if saved.plugins else self._instead_of(name))
        wrong = [name for name, tensor in saved.weights.items() if not tensor.isfinite().all()]
        if wrong:
            yield Problem(f"{file}: `{wrong[0]}` is not finite", "begin again with a lower learning rate")

    def _best(self) -> Iterator[Problem]:
        best = self._best_row()
        there = self.saved["best"].result if "best" in self.saved else None
        if "best" not in self.damage and best and (there is None or there["epoch"] != best["epoch"]):
            which = f"is of epoch {there['epoch']}" if there else "missing"
            yield Problem(
                f"{self.files['best']}: {which}; the best epoch so far is {best['epoch']}", self._instead_of("best")
            )

    def _best_row(self) -> dict[str, Any] | None:
        return next((row for row in reversed(self.state["history"]) if row["best"]), None)

    def config(self) -> Iterator[Problem]:
        """`config.yaml` is there, loads, and is the checkpoint's."""
        path = self.run_dir / "config.yaml"
        known = self.saved.get("last")
        fix = self.resume if known else "fix it by hand"
        if not path.is_file():
            yield Problem(f"{path}: missing", fix)
            return
        try:
            config = resolved(load_config(path, (), self.plugins))
        except ConfigError as error:
            yield Problem(str(error), NAME_PLUGINS if self.lacks_plugins else fix)
            return
        if known and config != up_to_date(known.config):
            yield Problem(f"{path}: differs from the config in {self.files['last']}, which is the one used", fix)

    def rows(self) -> Iterator[Problem]:
        """`metrics.csv` and `diagnostics.csv` are, to the letter, what the state says."""
        if not self.state:
            return
        for name, (key, kind) in ROWS.items():
            rows, path = self.state[key], self.run_dir / f"{name}.csv"
            there = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
            # An earlier version had fewer columns, which are there when a later one has opened the run.
            columns = [field.name for field in fields(kind)]
            later = [{column: row.get(column) for column in columns} for row in rows]
            if there not in ([as_csv(rows), as_csv(later)] if rows else [""]):
                found = max(len(there.splitlines()) - 1, 0)
                said = f"has {found} rows, not {len(rows)}" if found != len(rows) else "has other values"
                yield Problem(f"{path}: {said}, compared with {self.files['last']}", self.resume)

    def summary(self) -> Iterator[Problem]:
        """`summary.json` is there when the run is finished, and then only, and gives its figures."""
        path = self.run_dir / "summary.json"
        if not self.state:
            return
        if not path.is_file():
            if self.state["stopped"]:
                yield Problem(f"{path}: missing, though the run is finished", self.resume)
            return
        if not self.state["stopped"]:
            yield Problem(f"{path}: exists, though the run is not finished", self.resume)
            return
        rows = {"best": self._best_row() or {}, "last": self.state["history"][-1]}
        try:
            summary = parsed(path.read_text(encoding="utf-8"))
            same = summary["epochs"] == self.state["epoch"] and all(
                measured(summary[name]) == measured(row) for name, row in rows.items()
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            yield Problem(f"{path}: damaged ({error!r})", self.resume)
            return
        if not same:
            yield Problem(f"{path}: has other figures than {self.files['last']}", self.resume)

    def notes(self, writer: str | None) -> Iterator[str]:
        """What is left from a process that was killed; the next one to open the run clears it away."""
        if writer:
            yield "files were not compared with each other, as they are being written"
            return
        words = "" if self.state.get("stopped") else last_words(self.run_dir)
        if words:
            yield f"its log ends with: {words}"
        gone = left_by(self.run_dir)
        if gone:
            yield f"process {gone} ended without closing this run"
        yield from (f"{part}: half-written, left behind" for part in sorted(self.run_dir.rglob(f".*{atomic.PART}")))


def as_data(found: Examination) -> dict[str, Any]:
    """Plain data for `--json`."""
    return {**asdict(found), "sound": not found.problems}
