"""Files that are whole or absent: written under another name, synced, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a file is called while it is written; a process that is killed leaves it behind.
PART = ".part"


def write(path: Path, content: bytes | str) -> None:
    """Put `content` at `path` so that a reader, or a crash, meets the old file or the new one.

    Raises `OSError` that names `path`.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with naming(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o666 & ~umask())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def link(path: Path, also: Path) -> None:
    """Let what `path` holds be found under `also` too, also when `path` is written anew; both are whole throughout."""
    temporary = also.with_name(f".{also.name}{PART}")
    try:
        os.link(path, temporary)
        temporary.replace(also)
        # Renaming does nothing where both names lead to one file already.
        temporary.unlink(missing_ok=True)
    except OSError:  # not every file system has two names for one file
        write(also, path.read_bytes())
    else:
        sync_folder(also.parent)


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left half-written in `folder`."""
    for part in folder.glob(f".*{PART}"):
        part.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` in an `OSError`: that of a full disk names no file, that of a temporary file one nobody knows."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def umask() -> int:
    """The bits of a mode that this process takes away."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync(file: Path) -> None:
    """Have what a file holds outlive a loss of power."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` outlive a loss of power."""
    # Windows can't open a folder, and its renames are journaled.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
