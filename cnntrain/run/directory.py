"""A run's folder: named, locked, and written whole file by whole file.

`config.yaml`, `metrics.csv`, `checkpoints/best.pt` and `last.pt`, `summary.json`, `log.txt`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from cnntrain.errors import UsageError
from cnntrain.run import atomic, checkpoint

if TYPE_CHECKING:
    from cnntrain.run.checkpoint import Checkpoint


class RunDirectory:
    """An open run directory; no other process can open it meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(f"{path}: another process is writing to this run directory") from error
        except OSError as error:
            raise UsageError(f"{path}: can't be written to ({error.strerror})") from error

    @classmethod
    def create(cls, path: Path, config: str) -> RunDirectory:
        """Make a new run directory that begins with its resolved config; one that exists is refused."""
        if path.exists():
            raise UsageError(f"{path}: exists already; go on with `--resume {path}`, or name another `--run-dir`")
        try:
            (path / "checkpoints").mkdir(parents=True)
            run = cls(path)
            atomic.write(path / "config.yaml", config)
        except OSError as error:
            raise UsageError(f"{path}: can't make the run directory ({error.strerror})") from error
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run directory to go on with it."""
        if not (path / "config.yaml").is_file():
            raise UsageError(f"{path}: no run directory to resume: it has no `config.yaml`")
        return cls(path)

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "last.pt"

    def save_best(self, content: Checkpoint) -> None:
        """Write the checkpoint of the best epoch so far."""
        checkpoint.save(self.path / "checkpoints" / "best.pt", content)

    def save_last(self, content: Checkpoint) -> None:
        """Write the checkpoint to resume from."""
        checkpoint.save(self.last, content)

    def write_config(self, config: str) -> None:
        """Replace the resolved config, when a resumed run goes on with another."""
        atomic.write(self.path / "config.yaml", config)

    def write_rows(self, name: str, rows: Sequence[Any]) -> None:
        """Write dataclasses as a CSV file: whole, so that no row can be missing or double."""
        if not rows:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(rows[0])], lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(asdict(row)) for row in rows)
        atomic.write(self.path / name, text.getvalue())

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write the final figures."""
        atomic.write(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file of a report, in a folder of the run's if `name` says so."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        atomic.write(path, content)

    def log(self, line: str) -> None:
        """Append a line to `log.txt`."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def close(self) -> None:
        """Let other processes open it."""
        self._lock.release()


def read_summary(path: Path) -> dict[str, Any] | None:
    """What a finished run wrote of itself, or None when it isn't finished."""
    try:
        summary: dict[str, Any] = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{path / 'summary.json'}: damaged ({error})") from error
    return summary


def _row(values: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items()}


def default_path(name: str, root: Path = Path("runs")) -> Path:
    """`runs/<name>/<YYYYMMDD-HHMMSS>`, with a number behind it when two runs start in one second."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    path, number = root / name / stamp, 1
    while path.exists():
        number += 1
        path = root / name / f"{stamp}-{number}"
    return path
