"""Data files changed at random: a data set within its ranges, or a `DataError` that names the file."""

import gzip
import io
import pickle
import struct
import tempfile
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from cnntrain.data.images import Folders
from cnntrain.data.sources import arrays, cifar, folders, idx, pickles
from cnntrain.errors import DataError

from .cases import Outcome, Row, attempt, repeat

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
# Where there is such a folder, thousands of files need not wait for the disk.
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
LABELS = (np.arange(12) % 3).astype(np.uint8)


def _idx(array):
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def _npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _picture(kind, mode):
    file = io.BytesIO()
    size = (8, 8, 3) if mode == "RGB" else (8, 8)
    Image.fromarray(np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def _book():
    part = ((PIXELS.reshape(12, 64).repeat(13, 1)[:, :784] / 256).astype(np.float32), LABELS.astype(np.int64))
    return pickle.dumps((part, part, part), 2)


# Of each format: the file that is changed, the others, and how a data set is read from them.
@cache
def formats():
    """name -> (name of the file that is changed, all files, reading)."""
    png = _picture("PNG", "L")
    packed = gzip.compress
    found = {
        "idx": ("images", {"images": _idx(PIXELS), "labels": _idx(LABELS)}, lambda f: idx.idx(f, "images", "labels")),
        "idx labels": (
            "labels",
            {"images": _idx(PIXELS), "labels": _idx(LABELS)},
            lambda f: idx.idx(f, "images", "labels"),
        ),
        "idx.gz": (
            "images.gz",
            {"images.gz": packed(_idx(PIXELS)), "labels": _idx(LABELS)},
            lambda f: idx.idx(f, "images", "labels"),
        ),
        "npz": ("x.npz", {"x.npz": _npz(images=PIXELS, labels=LABELS)}, lambda f: arrays.npz(f, "x.npz")),
        "csv": (
            "x.csv",
            {"x.csv": b"path,label\na.png,one\na.png,two\n", "a.png": png},
            lambda f: folders.csv_file(f, "x.csv"),
        ),
        "book's pickle": (
            "mnist.pkl.gz",
            {"mnist.pkl.gz": packed(_book())},
            lambda f: pickles.nielsen_pickle(f),
        ),
    }
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        name = f"p/b/1.{kind.lower()}"
        files = {"p/a/0.png": png, "p/b/0.png": png, name: _picture(kind, "RGB")}
        found[kind] = (name, files, lambda f: folders.image_folder(f, "p", size=8))
    return found


def changed(data, random):
    """Bytes flipped, cut, doubled, put in, or large numbers written over them; what is packed is changed inside."""
    if data[:2] == b"\x1f\x8b" and random.random() < 0.7:
        return gzip.compress(changed(gzip.decompress(data), random), 1)
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 8])):
        if not data:
            break
        # Headers are where the most can go wrong.
        spot = random.randrange(min(len(data), random.choice([40, 400, len(data)])))
        match random.randrange(5):
            case 0:
                data[spot] ^= 1 << random.randrange(8)
            case 1:
                del data[spot:]
            case 2:
                data[spot : spot + 4] = random.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
            case 3:
                data[spot:spot] = data[spot : spot + random.randrange(1, 50)]
            case 4:
                del data[spot : spot + random.randrange(1, 50)]
    return bytes(data)


def check_one(random):
    """A changed file of one format gives images within their ranges, or a `DataError` that names a file there."""
    name = random.choice(sorted(formats()))
    target, files, read = formats()[name]
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        for file, content in files.items():
            path = Path(folder, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(changed(content, random) if file == target else content)
        try:
            dataset = read(Folders(Path(folder), Path(folder, "cache")))
        except DataError as error:
            assert folder in str(error), f"{name}: {error}"
            return
        check_ranges(dataset)


def check_ranges(dataset):
    for part in (dataset.train, dataset.validation, dataset.test):
        if part is not None:
            pixels, labels = np.asarray(part.pixels[:]), part.labels
            assert len(labels) == len(pixels) > 0
            assert pixels.ndim == 4
            assert labels.dtype == np.int64
            assert 0 <= labels.min() <= labels.max() < len(dataset.classes)
            assert pixels.dtype == np.uint8 or (pixels.min() >= 0 and pixels.max() <= 1)


@pytest.mark.filterwarnings("error")
def test_mutated_files():
    outcome = Outcome()
    random = Random(0)
    for _ in range(2000):
        attempt(check_one, random, outcome)
    assert not outcome.failures, "\n".join(outcome.failures[:10])
    assert outcome.cases == 2000


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_cifar_records(tmp_path, label_bytes):
    record = bytes([3] * label_bytes) + bytes(3072)
    for content in (b"", record[:-1], record * 3, record + b"x", bytes([200] * label_bytes) + bytes(3072)):
        (tmp_path / "x.bin").write_bytes(content)
        with pytest.raises(DataError, match=r"x\.bin"):
            cifar._read(tmp_path / "x.bin", 1, label_bytes, 0, 10)


def _work(random: Random, deadline: float) -> Outcome:
    return repeat(check_one, random, deadline)


ROWS: list[Row] = [("mutated IDX, npz, CSV, pickles and images: a data set, or an error that names the file", _work)]
