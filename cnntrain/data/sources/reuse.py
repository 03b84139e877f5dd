"""Images that were decoded before, from files that have not changed since."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL

from cnntrain.data.images import DIGEST_BYTES, digests_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnntrain.data.cache import Older


# To be raised when files are decoded to other pixels than before.
DECODER = 1


def marks_of(listing: Sequence[tuple[Any, ...]]) -> NDArray[np.uint8]:
    """(images, 16): what tells one state of one file, and what decodes it, from all others."""
    texts = (repr((DECODER, PIL.__version__, *item)).encode() for item in listing)
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
        """The images with these marks; none of an entry whose images have another (height, width)."""
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
        """The part for so many images from `start` on."""
        return replace(self, rows=self.rows[start : start + count], digests=self.digests[start : start + count])

    def get(self, index: int, channels: int | None) -> NDArray[np.uint8] | None:
        """One as it was decoded, (height, width) or (height, width, 3); None if it is to be decoded again."""
        if self.rows[index] < 0:
            return None
        size = math.prod(self.shape[1:])
        try:
            stored = np.fromfile(self.file, np.uint8, size, offset=int(self.rows[index]) * size)
        except OSError:
            return None
        if len(stored) < size:
            return None
        image = stored.reshape(self.shape[1:])
        # Where nobody asked for `channels`, a grey one among colours can't be told from one in colours that looks grey.
        is_doubtful = channels is None and len(image) == 3 and bool((image == image[:1]).all())
        if is_doubtful or not np.array_equal(digests_of(image[None])[0], self.digests[index]):
            return None
        return image[0] if len(image) == 1 else image.transpose(1, 2, 0)
