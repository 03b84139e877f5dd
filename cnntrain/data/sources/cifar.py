"""CIFAR-10 and CIFAR-100 in their binary versions: a record is its labels' bytes, then 3x32x32 pixels."""

from pathlib import Path
from typing import Literal

from cnntrain.data.images import Dataset, Folders, Images
from cnntrain.data.sources.download import fetch, find, put
from cnntrain.errors import DataError
from cnntrain.registry import sources

BASE = "https://www.cs.toronto.edu/~kriz/"
BATCH = 10_000
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PIXELS = 3 * 32 * 32


@sources.register("cifar10")
def cifar10(folders: Folders, /) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test photographs in 10 classes, 32x32 RGB (Krizhevsky 2009)."""
    files = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    place = _place(folders, "cifar-10", files, "c32a1d4ab5d03f1284b67883e8d87530")
    parts = [_read(place / file, BATCH, label_bytes=1, column=0, classes=10) for file in files]
    return Dataset(tuple(CIFAR10), _joined(parts[:5]), test=parts[5])


@sources.register("cifar100")
def cifar100(folders: Folders, /, labels: Literal["fine", "coarse"] = "fine") -> Dataset:
    """CIFAR-100: 60,000 photographs in 100 fine or 20 coarse classes, 32x32 RGB (Krizhevsky 2009)."""
    names = f"{labels}_label_names.txt"
    place = _place(folders, "cifar-100", ["train.bin", "test.bin", names], "03b5dce01913d631647c71ecec9e9cb8")
    classes = tuple((place / names).read_text(encoding="ascii", errors="replace").split())
    column = 1 if labels == "fine" else 0
    train, test = (
        _read(place / file, count, 2, column, len(classes))
        for file, count in (("train.bin", 5 * BATCH), ("test.bin", BATCH))
    )
    return Dataset(classes, train, test=test)


def _place(folders: Folders, name: str, files: list[str], md5: str) -> Path:
    found = find(folders, f"{name}-batches-bin" if name == "cifar-10" else f"{name}-binary", files)
    found = found or find(folders, name, files)
    return found or _unpack(fetch(folders, name, f"{BASE}{name}-binary.tar.gz", md5), files)


def _unpack(archive: Path, files: list[str]) -> Path:
    import tarfile

    with tarfile.open(archive) as packed:
        members = {member.name.rpartition("/")[2]: member for member in packed if member.isreg()}
        for file in files:
            # Members are found by their last name and written under ours, so that no path of theirs is used.
            source = packed.extractfile(members[file]) if file in members else None
            if source is None:
                raise DataError(f"{archive}: it does not hold {file}; remove it, and it will be downloaded again")
            with source:
                put(source, archive.parent / file)
    return archive.parent


def _read(path: Path, count: int, label_bytes: int, column: int, classes: int) -> Images:
    import numpy as np

    size = count * (label_bytes + PIXELS)
    data = np.fromfile(path, np.uint8, size + 1)
    if len(data) != size:
        raise DataError(
            f"{path} is {'truncated' if len(data) < size else 'damaged'}: {path.stat().st_size:,} bytes, not {size:,}"
        )
    records = data.reshape(-1, label_bytes + PIXELS)
    labels = records[:, column].astype(np.int64)
    if labels.max() >= classes:
        raise DataError(f"{path}: the label {labels.max()} is out of range; there are {classes} classes")
    return Images(records[:, label_bytes:].reshape(-1, 3, 32, 32).copy(), labels)


def _joined(parts: list[Images]) -> Images:
    import numpy as np

    return Images(np.concatenate([part.pixels for part in parts]), np.concatenate([part.labels for part in parts]))
