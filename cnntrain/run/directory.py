"""A run's folder: named, locked, and written whole file by whole file, but for what is appended to: log and events.

`config.yaml`, `metrics.csv`, `checkpoints/best.pt`, `last.pt` and `previous.pt`, `summary.json`, `log.txt`, `events.*`.
"""

from __future__ import annotations

import csv
import errno
import glob
import io
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from cnntrain import atomic, registry
from cnntrain.errors import UsageError
from cnntrain.run import checkpoint
from cnntrain.run.events import Events
from cnntrain.run.owner import PATIENCE, left_by

if TYPE_CHECKING:
    from cnntrain.run.content import Checkpoint


# What makes a folder unfit for a run; a full disk is a failure of another kind, and says so itself.
UNFIT = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
}

# What is read from a run, or added to.
PARTS = (
    "config.yaml",
    "metrics.csv",
    "diagnostics.csv",
    "summary.json",
    "log.txt",
    "checkpoints",
    "plots",
    ".lock",
    ".owner",
)

# More than there are processes that want one and the same new run at once; each of them can spoil one attempt.
ATTEMPTS = 100


class _Taken(UsageError):
    """A new run can't have a name that one has already."""

    def __init__(self, path: Path) -> None:
        resume = f"go on with `--resume {path}`, or " if _is_run(path) else ""
        super().__init__(f"{path}: exists already; {resume}name another `--run-dir`")


class RunDirectory:
    """An open run directory; no other process can open it meanwhile.

    `left_by` names the process that had it open before and ended without closing it: killed, most likely.
    """

    def __init__(self, path: Path) -> None:
        check_links(path)
        self.path = path
        # The system's lock, which ends with the process that holds it, whatever it dies of.
        self._lock = FileLock(path / ".lock")
        self._owner = path / ".owner"
        try:
            self._lock.acquire(timeout=PATIENCE)
            self.left_by = left_by(path)
            (path / "checkpoints").mkdir(exist_ok=True)
            self._me = f"{os.getpid()} on {socket.gethostname()}"
            atomic.write(self._owner, self._me)
        except Timeout as error:
            owner = left_by(path)
            who = f"another process ({owner})" if owner else "another process"
            raise UsageError(f"{path}: {who} is writing to this run directory") from error
        except OSError as error:
            self._lock.release()
            raise _unfit(path, "can't be written to", error) from error
        for folder in (path, path / "checkpoints", path / "plots"):
            atomic.sweep(folder)
        self._events = Events(path)
        self._is_known = False

    @classmethod
    def create(cls, path: Path, config: str, or_beside: bool = False) -> RunDirectory:
        """Make a new run directory that begins with its resolved config.

        One that exists, unless it is an empty folder, is refused with `UsageError`, or the next free of `<path>-2`,
        `<path>-3` is made, `or_beside`.
        """
        place, numbers = path, count(2)
        while True:
            try:
                return cls._create(place, config)
            except _Taken:
                if not or_beside:
                    raise
            place = path.with_name(f"{path.name}-{next(numbers)}")

    @classmethod
    def _create(cls, path: Path, config: str) -> RunDirectory:
        # `Path` has methods for this, which raise where a name is too long.
        if os.path.isfile(path):
            raise UsageError(f"{path}: is a file; name another `--run-dir`")
        if os.path.exists(path):
            return cls._fill(path, config)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _furnish(path, config)
        except OSError as error:
            if os.path.isdir(path):  # since a moment ago
                raise _Taken(path) from error
            raise _unfit(path, "can't make the run directory", error) from error
        with suppress(OSError):  # not every folder that can be written to can be read
            atomic.sync_folder(path.parent)
        return cls(path)

    @classmethod
    def _fill(cls, path: Path, config: str) -> RunDirectory:
        # What has been made for the run stays what it is: a mounted volume, somebody's current directory.
        if not _is_free(path):
            raise _Taken(path)
        directory = cls(path)
        try:
            if not _is_free(path):  # since a moment ago
                raise _Taken(path)
            directory.write_config(config)
        except BaseException:
            directory.close()
            raise
        return directory

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run directory to go on with it."""
        if not _is_run(path):
            raise UsageError(f"{path}: not a run directory: it has no `config.yaml`")
        return cls(path)

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch so far."""
        return self.path / "checkpoints" / "best.pt"

    @property
    def previous(self) -> Path:
        """The checkpoint to resume from before the last one."""
        return self.path / "checkpoints" / "previous.pt"

    def save_best(self, content: Checkpoint) -> None:
        """Write the checkpoint of the best epoch so far."""
        _check_place(self.path, self._me)
        checkpoint.save(self.best, content)

    def save_last(self, content: Checkpoint) -> None:
        """Write the checkpoint to resume from; the one before it stays as `previous.pt`."""
        _check_place(self.path, self._me)
        if self.last.is_file():
            atomic.link(self.last, self.previous)
        # Once, at the beginning: later it is made by the same parts.
        checkpoint.save(self.last, content, is_doubtful=not self._is_known and bool(registry.of_plugins()))
        self._is_known = True

    def go_back_to(self, file: Path) -> None:
        """Let `file`, a checkpoint of this run, be the one to resume from."""
        _check_place(self.path, self._me)
        atomic.link(file, self.last)

    def write_config(self, config: str) -> None:
        """Replace the resolved config, when a resumed run goes on with another."""
        _check_place(self.path, self._me)
        atomic.write(self.path / "config.yaml", config)

    def write_rows(self, name: str, rows: Sequence[Any]) -> None:
        """Write dataclasses as a CSV file: whole, so that no row can be missing or double; without rows, none."""
        _check_place(self.path, self._me)
        if not rows:
            (self.path / name).unlink(missing_ok=True)
            return
        atomic.write(self.path / name, as_csv([vars(row) for row in rows]))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write the final figures."""
        _check_place(self.path, self._me)
        atomic.write(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")

    def forget_summary(self) -> None:
        """Take the final figures away, as they are no longer final when a finished run goes on."""
        _check_place(self.path, self._me)
        (self.path / "summary.json").unlink(missing_ok=True)

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file of a report, in a folder of the run's if `name` says so."""
        _check_place(self.path, self._me)
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        atomic.write(path, content)

    def log(self, line: str) -> None:
        """Append a line to `log.txt`, on a line of its own even where a crash cut the last one off."""
        _check_place(self.path, self._me)
        path = self.path / "log.txt"
        with atomic.naming(path), path.open("a+b") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            torn = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * torn + line.encode("utf-8", "replace") + b"\n")

    def write_events(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show TensorBoard the figures after each epoch, where it is installed."""
        try:
            self._events.bring_to(rows)
        except ImportError as error:
            self.log(f"no TensorBoard files: {error}")

    def close(self) -> None:
        """Let other processes open it."""
        # What can't be written has been told of, and what is another run's is left to it.
        with suppress(OSError):
            self._events.close()
        with suppress(OSError, UsageError):
            _check_place(self.path, self._me)
            self._owner.unlink()
        self._lock.release()


def _check_place(path: Path, me: str) -> None:
    """Raise `UsageError` where a folder is no longer the one that `me` has opened: another run may be there now."""
    owner = path / ".owner"
    if not owner.is_file() or owner.read_text(encoding="utf-8", errors="replace") != me:
        raise UsageError(f"{path}: was removed or replaced while this run was writing to it")


def _furnish(path: Path, config: str) -> None:
    """Make the folder beside its place and rename it, so that there is never a run without its config."""
    unfinished = f".{path.name}."
    _sweep(path.parent, unfinished)
    for _ in range(ATTEMPTS):
        new = Path(tempfile.mkdtemp(dir=path.parent, prefix=unfinished, suffix=atomic.PART))
        try:
            atomic.allow(new, 0o777)
            (new / "checkpoints").mkdir()
            atomic.write(new / "config.yaml", config)
            new.rename(path)
        except FileNotFoundError:  # one that wants this run too took ours for a dead one's
            continue
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return
    raise FileNotFoundError(errno.ENOENT, "what is written there is removed at once", str(path))


def _is_run(path: Path) -> bool:
    """Whether it can be resumed; a checkpoint carries the config, too."""
    # `Path` has methods for this, which raise where the folder can't be searched.
    return os.path.isfile(path / "config.yaml") or os.path.isfile(path / "checkpoints" / "last.pt")


def _is_free(path: Path) -> bool:
    """Whether nothing is in a folder, or what a run was about to make of it."""
    try:
        names = {name for name in os.listdir(path) if not name.endswith(atomic.PART)}
        return names <= {".lock", ".owner", "checkpoints"} and not any((path / "checkpoints").glob("*"))
    except OSError:
        return False


def _sweep(folder: Path, unfinished: str) -> None:
    """Remove what killed processes left, renamed first: a living one finds its folder gone, never half empty."""
    left = [path for path in folder.glob(f"{glob.escape(unfinished)}*{atomic.PART}") if path.is_dir()]
    if left:
        with tempfile.TemporaryDirectory(atomic.PART, unfinished, folder, ignore_cleanup_errors=True) as removed:
            for old in left:
                with suppress(OSError):  # another took it away
                    old.rename(Path(removed) / old.name)


def _unfit(path: Path, what: str, error: OSError) -> Exception:
    return UsageError(f"{path}: {what} ({error.strerror})") if error.errno in UNFIT else error


def check_links(path: Path) -> None:
    """Raise `UsageError` where a part of a run is a link: it could lead to any file, to be read or written to."""
    for part in (path / name for name in PARTS):
        if part.is_symlink():
            raise UsageError(f"{part}: is a link, which could lead anywhere; replace it by what it leads to")


def last_words(path: Path) -> str:
    """The last line of a run's log, or nothing."""
    with suppress(OSError):
        lines = (path / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same columns, at least one, as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([str(cell).lower() if isinstance(cell, bool) else cell for cell in row.values()] for row in rows)
    return text.getvalue()


def default_path(name: str) -> Path:
    """`runs/<name>/<YYYYMMDD-HHMMSS>`; two runs may start in one second."""
    return Path("runs") / name / datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
