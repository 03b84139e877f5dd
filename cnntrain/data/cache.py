"""Pixels on disk, memory-mapped: image files that were decoded once, and arrays that do not fit into memory.

An entry is a folder with `pixels` and `digests`, raw, and `header.json`, which says what they are; `marks` are there
where images come from files of their own. It is made under another name, synced and renamed, so that it is whole or
absent. Where some files can't be read, what could be is kept under a name that nobody asks for, to be copied from.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import current_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from cnntrain import atomic
from cnntrain.data.images import DIGEST_BYTES, Folders, Images, OnDisk, Reporter
from cnntrain.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "cnntrain pixels 2"
# After so many seconds it is told why nothing happens.
PATIENCE = 2


@dataclass(frozen=True)
class Content:
    """What there is in a file of pixels: their shape and type, and the digest of each image.

    `marks`, (images, 16), tell what each image was made of, and are zeros where it is missing; `failure` says why.
    """

    shape: tuple[int, ...]
    dtype: str
    digests: NDArray[np.uint8]
    marks: NDArray[np.uint8] | None = None
    failure: DataError | None = None


@dataclass(frozen=True)
class Older:
    """An entry of the same family, whose images can be taken over where they are made of the same."""

    file: Path
    content: Content

    def remove(self) -> None:
        """Take it away, as where there is no room for both."""
        _remove([self.file.parent])


# Writes an entry's pixels to a file; from an older one, where there is one with marks.
Write = Callable[[Path, Older | None], Content]


def entry(cache: Path, family: str, key: str, write: Write, reporter: Reporter) -> OnDisk:
    """The entry of that key, made by `write` if it is not there whole.

    Of a family, as of one folder of images, only the newest entry is kept. Processes that ask at once wait for the
    first, which `reporter` tells. Raises `DataError` where the cache can't be written to, and the content's `failure`,
    after what could be made is kept for the next time.
    """
    if getattr(current_process(), "_inheriting", False):
        # One of the processes that decode for the script, which holds the lock, is importing it, and has come to here.
        raise DataError('a script that is not the command line must begin with `if __name__ == "__main__":`')
    place = cache / "pixels" / f"{_short(family)}-{_short(key)}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place.parent / f".{_short(family)}.lock", reporter):
            found = _open(place)
            if found is None:
                return _make(place, write)
            # What could not be removed when it was made.
            _remove(other for other in place.parent.glob(f"{_short(family)}-*") if other != place)
            return found
    except OSError as error:
        where = error.filename or place.parent
        raise DataError(
            f"{where}: can't write to the cache of decoded images ({error.strerror or error}); "
            f"free some space there, or set CNNTRAIN_CACHE_DIR to another folder"
        ) from error


@contextmanager
def _locked(path: Path, reporter: Reporter) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        reporter.say("waiting for another process, which prepares the same images")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def spilled(images: Images, folders: Folders) -> Images:
    """The same images on disk."""
    import numpy as np

    if isinstance(images.pixels, OnDisk):
        return images

    def write(file: Path, older: Older | None) -> Content:
        with file.open("wb") as out:
            for chunk in images.chunks():
                out.write(np.ascontiguousarray(chunk).data)
        return Content(images.pixels.shape, images.pixels.dtype.str, images.digests)

    # The same bytes are other images in another shape.
    key = f"{images.fingerprint} {images.pixels.shape}"
    return replace(images, pixels=entry(folders.cache, images.fingerprint, key, write, folders.reporter))


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def _open(place: Path) -> OnDisk | None:
    """The entry, or None where it is missing or is not what its header says."""
    import numpy as np

    content = _content(place)
    if content is None:
        return None
    base = np.asarray(np.memmap(place / "pixels", np.dtype(content.dtype), "r", shape=content.shape))
    return OnDisk(base, content.digests, np.arange(len(base)))


def _content(place: Path) -> Content | None:
    """What its header says of an entry, or None where that is not so."""
    import numpy as np

    def read(name: str) -> NDArray[np.uint8]:
        return np.fromfile(place / name, np.uint8).reshape(-1, DIGEST_BYTES)

    try:
        header = json.loads((place / "header.json").read_text(encoding="utf-8"))
        shape, dtype = tuple(header["shape"]), np.dtype(header["dtype"])
        content = Content(shape, dtype.str, read("digests"), read("marks") if "marks" in header else None)
        size = (place / "pixels").stat().st_size
        # Bytes that are taken for objects would be taken for addresses.
        is_whole = not dtype.hasobject and header == _header(content) and size == int(np.prod(shape)) * dtype.itemsize
        is_whole &= all(len(part) == shape[0] for part in (content.digests, content.marks) if part is not None)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return content if is_whole else None


def _header(content: Content) -> dict[str, Any]:
    parts = {"digests": content.digests, "marks": content.marks}
    sealed = {name: hashlib.sha256(part.tobytes()).hexdigest() for name, part in parts.items() if part is not None}
    return {"format": FORMAT, "shape": list(content.shape), "dtype": content.dtype, **sealed}


def _make(place: Path, write: Write) -> OnDisk:
    family = place.name.partition("-")[0]
    # What was left by a process that was killed.
    _remove(place.parent.glob(f".{family}-*{atomic.PART}"))
    others = sorted(place.parent.glob(f"{family}-*"), key=lambda other: other.stat().st_mtime, reverse=True)
    older = _older(others)
    if older is None:
        _remove(others)
    part = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}", suffix=atomic.PART))
    try:
        content = write(part / "pixels", older)
        content.digests.tofile(part / "digests")
        if content.marks is not None:
            content.marks.tofile(part / "marks")
        (part / "header.json").write_text(json.dumps(_header(content)), encoding="utf-8")
        for file in part.iterdir():
            atomic.sync(file)
        made_at = part.with_name(part.name[1:].removesuffix(atomic.PART)) if content.failure else place
        _remove([made_at])
        part.rename(made_at)
        atomic.sync_folder(place.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _remove(other for other in others if other != made_at)
    if content.failure:
        raise content.failure
    made = _open(place)
    if made is None:
        raise DataError(f"{place}: what was written there can't be read back; the disk may be damaged")
    return made


def _older(others: Sequence[Path]) -> Older | None:
    """The newest entry whose images can be taken over."""
    for other in others:
        content = _content(other)
        if content is not None and content.marks is not None and len(content.shape) == 4 and content.dtype == "|u1":
            return Older(other / "pixels", content)
    return None


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def has_room(folder: Path, size: int) -> bool:
    """Whether `size` bytes fit on the disk."""
    return shutil.disk_usage(folder).free >= size


def check_room(folder: Path, size: int) -> None:
    """Raise `DataError` where `size` bytes do not fit on the disk."""
    if not has_room(folder, size):
        free = shutil.disk_usage(folder).free
        raise DataError(
            f"{folder}: the decoded images take {size / 2**30:,.1f} GiB, but only {free / 2**30:,.1f} GiB are free; "
            f"free some space, set a smaller `size:`, or set CNNTRAIN_CACHE_DIR to another folder"
        )
