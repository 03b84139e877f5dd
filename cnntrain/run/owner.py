"""Which process has a run directory open."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cnntrain.text import in_a_line

# Who looks whether a run is being written takes its lock for some microseconds; that is waited out, in seconds.
PATIENCE = 0.5


def writer_of(path: Path) -> str | None:
    """Who is writing to a run directory at this moment, or None; changes nothing there."""
    if not (path / ".lock").is_file():
        return None
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        return left_by(path) or "a process"
    except OSError:  # where it can't be opened, nobody writes
        return None
    lock.release()
    return None


def left_by(path: Path) -> str | None:
    """The process that opened a run directory and has not closed it, or None."""
    with suppress(OSError):
        return in_a_line((path / ".owner").read_text(encoding="utf-8", errors="replace"))
    return None
