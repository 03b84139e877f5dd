"""What a data source gives: labelled images in splits, and the names of their classes.

Shapes: pixels are (images, channels, height, width), labels are (images,).
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import platformdirs

from cnntrain.errors import DataError
from cnntrain.text import is_printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.uint8] | NDArray[np.float32]
    Labels = NDArray[np.int64]
    Rows = NDArray[np.int64] | slice

# Pixels are looked through in pieces of so many bytes.
CHUNK_BYTES = 2**23
DIGEST_BYTES = 16
# What a pixel may be.
PIXEL, UNIT = "uint8", "float32"


@dataclass(frozen=True, eq=False)
class OnDisk:
    """Pixels in a memory-mapped file, with a digest of each image: the images `rows` of it, in that order.

    Like an array, but what is indexed is read; `take` chooses without reading.
    """

    base: Array
    digests: NDArray[np.uint8]
    rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, channels, height, width)."""
        return (len(self.rows), *self.base.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or float32."""
        return self.base.dtype

    @property
    def nbytes(self) -> int:
        """The bytes that they would take in memory."""
        return len(self.rows) * self.base[:1].nbytes

    def __getitem__(self, indices: Rows) -> Array:
        return self.base[self.rows[indices]]

    def take(self, indices: Rows) -> OnDisk:
        """The images at `indices`, still on disk."""
        return OnDisk(self.base, self.digests, self.rows[indices])


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images: uint8 pixels in 0..255, or float32 pixels in 0..1, and int64 labels.

    `paths` name the files that they were read from, where each is a file of its own.
    """

    pixels: Array | OnDisk
    labels: Labels
    paths: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Rows) -> Images:
        """The images at `indices`, in that order."""
        pixels = self.pixels.take(indices) if isinstance(self.pixels, OnDisk) else self.pixels[indices]
        return Images(pixels, self.labels[indices], None if self.paths is None else self.paths[indices])

    def chunks(self) -> Iterator[Array]:
        """All pixels in their order, in pieces that need little memory."""
        size = max(1, CHUNK_BYTES // max(1, self.pixels[:1].nbytes))
        for start in range(0, len(self), size):
            yield self.pixels[start : start + size]

    @cached_property
    def digests(self) -> NDArray[np.uint8]:
        """(images, 16): what tells one image from another, by its pixels."""
        import numpy as np

        if isinstance(self.pixels, OnDisk):
            return self.pixels.digests[self.pixels.rows]
        found = [digests_of(chunk) for chunk in self.chunks()]
        return np.concatenate(found) if found else np.empty((0, DIGEST_BYTES), np.uint8)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the images' digests and the labels, as hexadecimal digits."""
        digest = hashlib.sha256(self.digests.tobytes())
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


def digests_of(pixels: Array) -> NDArray[np.uint8]:
    """(images, 16): the first bytes of the SHA-256 of each image."""
    import numpy as np

    found = b"".join(hashlib.sha256(image.tobytes()).digest()[:DIGEST_BYTES] for image in pixels)
    return np.frombuffer(found, np.uint8).reshape(-1, DIGEST_BYTES)


def check_class(name: str, where: str = "") -> None:
    """Raise `DataError` for a name that would not look like one on a terminal; `where` is said before it."""
    if not is_printable(name) or "\n" in name:
        raise DataError(f"{where}the class {name!a} has characters in its name that can't be shown; rename it")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A whole data set; a split that the source does not have is None."""

    classes: tuple[str, ...]
    train: Images
    validation: Images | None = None
    test: Images | None = None

    def __post_init__(self) -> None:
        for name in self.classes:
            check_class(name)
        twice = next((name for name, count in Counter(self.classes).items() if count > 1), None)
        if twice is not None:
            raise DataError(f"two classes are called `{twice}`; give each a name of its own")
        for name, part in (("training", self.train), ("validation", self.validation), ("test", self.test)):
            if part is not None:
                _check(part, name, len(self.classes))
            if part and part.pixels.shape[1:] != self.train.pixels.shape[1:]:
                one, other = (" x ".join(map(str, images.pixels.shape[1:])) for images in (self.train, part))
                raise DataError(f"the training images are {one} (channels, height, width), the {name} images {other}")

    @property
    def nbytes(self) -> int:
        """The bytes that all pixels take in memory."""
        return sum(part.pixels.nbytes for part in (self.train, self.validation, self.test) if part)


def _check(images: Images, name: str, classes: int) -> None:
    """Raise `DataError` for images that are not what `Images` says: those of a plugin may be anything."""
    import numpy as np

    pixels, labels, said = images.pixels, images.labels, f"the {name} images"
    if not isinstance(pixels, np.ndarray | OnDisk) or len(pixels.shape) != 4 or pixels.dtype not in (PIXEL, UNIT):
        raise DataError(f"{said} are not a NumPy array of (images, channels, height, width) in uint8 or float32")
    if not isinstance(labels, np.ndarray) or labels.dtype != np.int64 or labels.shape != (pixels.shape[0],):
        raise DataError(f"{said} are {pixels.shape[0]:,}, but their labels are not a NumPy array of as many int64")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"{said} have labels from {labels.min()} to {labels.max()}; there are {classes} classes")
    # What is on a disk was looked at before; a comparison with what is no number does not hold.
    units = images.chunks() if isinstance(pixels, np.ndarray) and pixels.dtype == UNIT else ()
    if not all(chunk.min(initial=0) >= 0 and chunk.max(initial=1) <= 1 for chunk in units):
        raise DataError(f"{said} have pixels that are not in 0..1; divide them by their range, or give uint8")


class Reporter(Protocol):
    """Whoever is told of long work: lines, and how much is done, of how much, of what."""

    def say(self, line: str) -> None:
        """Tell a line."""
        ...

    def progress(self, done: int, total: int, what: str) -> None:
        """`done` of `total` pieces of `what` are done."""
        ...


class _ToStandardError:
    def say(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")

    def progress(self, done: int, total: int, what: str) -> None:
        pass


@dataclass(frozen=True)
class Folders:
    """Where data is looked for: the folder that the user named, if any, then the user's cache."""

    named: Path | None
    cache: Path
    reporter: Reporter = field(default_factory=_ToStandardError)

    @classmethod
    def standard(cls, data_dir: str | Path | None, reporter: Reporter | None = None) -> Folders:
        """`--data-dir`, else `CNNTRAIN_DATA_DIR`; downloads and decoded images go to `CNNTRAIN_CACHE_DIR`, else to the
        user's cache.
        """
        named = data_dir or os.environ.get("CNNTRAIN_DATA_DIR")
        cache = Path(os.environ.get("CNNTRAIN_CACHE_DIR") or platformdirs.user_cache_dir("cnntrain"))
        folder = Path(named) if named else None
        return cls(folder, cache, reporter) if reporter else cls(folder, cache)

    def file(self, path: str) -> Path:
        """The file at a path written in a config; raises `DataError` for anything else, as a pipe or a device."""
        found = self.resolve(path)
        if not found.is_file():
            found = found.absolute()
            said = "not a file" if found.exists() else f"there is no such file{_hint(path)}"
            raise DataError(f"{found}: {said}")
        return found

    def folder(self, path: str) -> Path:
        """The folder at a path written in a config; raises `DataError` for anything else."""
        found = self.resolve(path)
        if not found.is_dir():
            raise DataError(f"{found.absolute()}: there is no such folder{_hint(path)}")
        return found

    def resolve(self, path: str) -> Path:
        """A path written in a config: in the named folder if it is there, else from here on; `~` is home."""
        if self.named is not None and (self.named / path).exists():
            return self.named / path
        return Path(os.path.expanduser(path))


def _hint(path: str) -> str:
    where = "a path in a config is searched for in `--data-dir`, then in the current directory"
    return "" if Path(path).is_absolute() else f"; {where}"
