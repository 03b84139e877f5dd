"""Files as users name them, and reading those for which nobody vouches: so much and no more, never waiting for ever."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from glob import glob
from pathlib import Path


def read_bytes(path: Path, limit: int) -> bytes:
    """The whole content of a file of up to `limit` bytes.

    A named pipe that nobody writes to reads as empty. Raises `OSError` for a file that is larger,
    or can't be read; `ValueError` for a name that no file can have.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        # Windows has `set_blocking` too, which refuses files.
        if hasattr(os, "O_NONBLOCK"):
            os.set_blocking(file.fileno(), True)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
    return content


def as_paths(named: str | Path | Iterable[str | Path]) -> tuple[Path, ...]:
    """One name, or several, as paths."""
    return (Path(named),) if isinstance(named, str | Path) else tuple(map(Path, named))


def matching(text: str) -> list[Path]:
    """What a glob matches, sorted, for shells that leave it as it is; anything else stays the path that it is."""
    matches = [] if Path(text).exists() else sorted(glob(text, recursive=True))
    return [Path(match) for match in matches] or [Path(text)]


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
