"""Files that are whole or absent: written under another name, synced, then renamed."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep

IS_WINDOWS = os.name == "nt"
# How often, and after how many seconds again, another process is given time to close a file.
ATTEMPTS, PAUSE = 40, 0.05
# What a file system answers that can't sync folders.
UNABLE = {errno.EINVAL, errno.ENOTSUP}
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
            allow(Path(temporary), 0o666)
            _replace(Path(temporary), path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def link(path: Path, also: Path) -> None:
    """Let what `path` holds be found under `also` too, also when `path` is written anew; both are whole throughout."""
    temporary = also.with_name(f".{also.name}{PART}")
    try:
        os.link(path, temporary)
        _replace(temporary, also)
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


def allow(path: Path, mode: int) -> None:
    """Give what was made as a temporary file or folder the mode that it would have had otherwise."""
    with suppress(OSError):  # not every file system has modes
        path.chmod(mode & ~umask())


def umask() -> int:
    """The bits of a mode that this process takes away."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _replace(path: Path, other: Path) -> None:
    """Rename `path` to `other`, which it replaces.

    Windows refuses while anybody reads the other, as virus scanners do, and others that look at a run: that is
    waited for.
    """
    for _ in range(ATTEMPTS if IS_WINDOWS else 0):
        try:
            path.replace(other)
            return
        except PermissionError:
            sleep(PAUSE)
    path.replace(other)


def sync(file: Path) -> None:
    """Have what a file holds outlive a loss of power."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` outlive a loss of power."""
    # Windows can't open a folder, and its renames are journaled.
    if not IS_WINDOWS:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in UNABLE:
                raise
        finally:
            os.close(handle)
