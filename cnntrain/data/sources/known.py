"""Images that were decoded before, from files that have not changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnntrain.data.images import DIGEST_BYTES, digests_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnntrain.data.cache import Older


def marks_of(listing: Sequence[tuple[Any, ...]]) -> NDArray[np.uint8]:
    """(images, 16): what tells one state of one file from all others."""
    # Names may hold halves of characters.
    texts = (repr(item).encode(errors="surrogatepass") for item in listing)
    found = b"".join(hashlib.sha256(text).digest()[:DIGEST_BYTES] for text in texts)
    return np.frombuffer(found, np.uint8).reshape(-1, DIGEST_BYTES)


@dataclass(frozen=True)
class Known:
    """For some images their places in an older entry's pixels, or -1, and the digests that they have there."""

    file: Path
    shape: tuple[int, ...]
    rows: NDArray[np.int64]
    digests: NDArray[np.uint8]

    @classmethod
    def of(cls, older: Older, marks: NDArray[np.uint8], shape: tuple[int, int]) -> Known | None:
        """The images with these marks, if images there are of that (height, width)."""
        if older.content.shape[2:] != shape or older.content.marks is None:
            return None
        places = {mark.tobytes(): row for row, mark in enumerate(older.content.marks)}
        rows = np.array([places.get(mark.tobytes(), -1) for mark in marks], np.int64)
        return cls(older.file, older.content.shape, rows, older.content.digests[rows])

    @property
    def count(self) -> int:
        """How many there are."""
        return int((self.rows >= 0).sum())

    def part(self, start: int, count: int) -> Known:
        """Those of so many images."""
        return replace(self, rows=self.rows[start : start + count], digests=self.digests[start : start + count])

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        return np.memmap(self.file, np.uint8, "r", shape=self.shape)

    def get(self, index: int, channels: int | None) -> NDArray[np.uint8] | None:
        """One as it was decoded, (height, width) or (height, width, 3); None if it is to be decoded again."""
        if self.rows[index] < 0:
            return None
        image = np.asarray(self._pixels[self.rows[index]])
        # Where nobody asked for `channels`, a grey one among colours can't be told from one in colours that looks grey.
        is_doubtful = channels is None and len(image) == 3 and bool((image == image[:1]).all())
        if is_doubtful or not np.array_equal(digests_of(image[None])[0], self.digests[index]):
            return None
        return image[0] if len(image) == 1 else image.transpose(1, 2, 0)
