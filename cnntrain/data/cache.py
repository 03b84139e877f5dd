"""Pixels on disk, memory-mapped: image files that were decoded once, and arrays that do not fit into memory.

An entry is a folder with `pixels` and `digests`, raw, and `header.json`, which says what they are.
It is made under another name, synced and renamed, so that it is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import current_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from cnntrain import atomic
from cnntrain.data.images import DIGEST_BYTES, Images, OnDisk
from cnntrain.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "cnntrain pixels 1"

# Writes an entry's pixels to a file, and gives their shape, their type and their digests.
Write = Callable[[Path], "tuple[tuple[int, ...], str, NDArray[np.uint8]]"]


def entry(cache: Path, family: str, key: str, write: Write) -> OnDisk:
    """The entry of that key, made by `write` if it is not there whole.

    Of a family, as of one folder of images, only the newest entry is kept. Processes that ask at
    once wait for the first. Raises `DataError` where the cache can't be written to.
    """
    if getattr(current_process(), "_inheriting", False):
        # One of the processes that decode for the script, which holds the lock, is importing it, and has come to here.
        raise DataError('a script that is not the command line must begin with `if __name__ == "__main__":`')
    place = cache / "pixels" / f"{_short(family)}-{_short(key)}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / f".{_short(family)}.lock"):
            return _open(place) or _make(place, write)
    except OSError as error:
        where = error.filename or place.parent
        raise DataError(
            f"{where}: can't write to the cache of decoded images ({error.strerror or error}); "
            f"free some space there, or set CNNTRAIN_CACHE_DIR to another folder"
        ) from error


def spilled(images: Images, cache: Path) -> Images:
    """The same images on disk."""
    import numpy as np

    if isinstance(images.pixels, OnDisk):
        return images

    def write(file: Path) -> tuple[tuple[int, ...], str, NDArray[np.uint8]]:
        with file.open("wb") as out:
            for chunk in images.chunks():
                out.write(np.ascontiguousarray(chunk).data)
        return images.pixels.shape, images.pixels.dtype.str, images.digests

    # The same bytes are other images in another shape.
    key = f"{images.fingerprint} {images.pixels.shape}"
    return replace(images, pixels=entry(cache, images.fingerprint, key, write))


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def _open(place: Path) -> OnDisk | None:
    """The entry, or None where it is missing or is not what its header says."""
    import numpy as np

    try:
        header = json.loads((place / "header.json").read_text(encoding="utf-8"))
        digests = np.fromfile(place / "digests", np.uint8).reshape(-1, DIGEST_BYTES)
        shape, dtype = tuple(header["shape"]), np.dtype(header["dtype"])
        size = (place / "pixels").stat().st_size
        is_whole = header == _header(shape, dtype.str, digests) and size == int(np.prod(shape)) * dtype.itemsize
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if not is_whole:
        return None
    base = np.asarray(np.memmap(place / "pixels", dtype, "r", shape=shape))
    return OnDisk(base, digests, np.arange(len(base)))


def _header(shape: Sequence[int], dtype: str, digests: NDArray[np.uint8]) -> dict[str, Any]:
    sealed = hashlib.sha256(digests.tobytes()).hexdigest()
    return {"format": FORMAT, "shape": list(shape), "dtype": dtype, "digests": sealed}


def _make(place: Path, write: Write) -> OnDisk:
    family = place.name.partition("-")[0]
    # What was made of files that have changed since, damaged, or left by a process that was killed.
    for old in [*place.parent.glob(f"{family}-*"), *place.parent.glob(f".{family}-*{atomic.PART}")]:
        shutil.rmtree(old, ignore_errors=True)
    part = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}", suffix=atomic.PART))
    try:
        shape, dtype, digests = write(part / "pixels")
        digests.tofile(part / "digests")
        (part / "header.json").write_text(json.dumps(_header(shape, dtype, digests)), encoding="utf-8")
        for file in part.iterdir():
            atomic.sync(file)
        part.rename(place)
        atomic.sync_folder(place.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    made = _open(place)
    if made is None:
        raise DataError(f"{place}: what was written there can't be read back; the disk may be damaged")
    return made


def check_room(folder: Path, size: int) -> None:
    """Raise `DataError` where `size` bytes do not fit on the disk."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DataError(
            f"{folder}: the decoded images take {size / 2**30:,.1f} GiB, but only {free / 2**30:,.1f} GiB are free; "
            f"free some space, set a smaller `size:`, or set CNNTRAIN_CACHE_DIR to another folder"
        )
