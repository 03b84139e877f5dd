"""What a data source gives: labelled images in splits, and the names of their classes.

Shapes: pixels are (images, channels, height, width), labels are (images,).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8] | NDArray[np.float32]
    Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images: uint8 pixels in 0..255, or float32 pixels in 0..1, and int64 labels."""

    pixels: Pixels
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64] | slice) -> Images:
        """The images at `indices`, in that order."""
        return Images(self.pixels[indices], self.labels[indices])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over pixels and labels, as hexadecimal digits."""
        digest = hashlib.sha256(self.pixels.tobytes())
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A whole data set; a split that the source does not have is None."""

    classes: tuple[str, ...]
    train: Images
    validation: Images | None = None
    test: Images | None = None


@dataclass(frozen=True)
class Folders:
    """Where data is looked for: the folder that the user named, if any, then the user's cache."""

    named: Path | None
    cache: Path

    @classmethod
    def standard(cls, data_dir: Path | None) -> Folders:
        """`--data-dir`, else `CNNTRAIN_DATA_DIR`; downloads go to the user's cache."""
        from_environment = os.environ.get("CNNTRAIN_DATA_DIR")
        named = data_dir or (Path(from_environment) if from_environment else None)
        return cls(named, Path(platformdirs.user_cache_dir("cnntrain")))

    def resolve(self, path: str) -> Path:
        """A path written in a config: relative to the named folder where it is found there, else to here."""
        if self.named is not None and (self.named / path).exists():
            return self.named / path
        return Path(path)
