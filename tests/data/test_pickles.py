"""The book's pickle: arrays are read, anything else is refused before it can run."""

import gzip
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from cnntrain.data.images import Folders
from cnntrain.data.sources.pickles import nielsen_pickle
from cnntrain.errors import DataError

RANDOM = np.random.default_rng(0)


def part(count):
    return (RANDOM.integers(0, 256, (count, 784)) / 256).astype(np.float32), np.arange(count) % 10


PARTS = (part(30), part(10), part(20))


def read(folder, content, protocol=2):
    with gzip.open(folder / "mnist.pkl.gz", "wb") as file:
        file.write(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return nielsen_pickle(Folders(folder, folder))


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_the_books_file(tmp_path, protocol):
    dataset = read(tmp_path, PARTS, protocol)
    for images, (pixels, labels) in zip((dataset.train, dataset.validation, dataset.test), PARTS, strict=True):
        assert np.array_equal(images.pixels.reshape(-1, 784), pixels)
        assert np.array_equal(images.labels, labels)


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, subprocess.getoutput, eval, exec, np.load, np.fromfile])
def test_hostile_payloads(tmp_path, function):
    canary = tmp_path / "canary"
    argument = f"open({str(canary)!r}, 'w')" if function in (eval, exec) else f"touch {canary}"
    with pytest.raises(DataError, match="refused"):
        read(tmp_path, (PARTS[0], PARTS[1], (Runs(function, argument), 0)))
    assert not canary.exists()


def test_an_object_array_is_refused(tmp_path):
    odd = np.array([{"a": 1}, None], dtype=object)
    with pytest.raises(DataError, match=r"refused|float32|damaged"):
        read(tmp_path, (PARTS[0], PARTS[1], (odd, PARTS[2][1])))


# Opcodes: a name, a text, a tuple of what stands since the mark.
NDARRAY, DTYPE = b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"
OBJECTS = DTYPE + b"(VO8\nI00\nI01\ntR"
# Python's word for objects that are not counted: NumPy took the flags from the state.
PLAIN_OBJECTS = OBJECTS + b"(I3\nV|\nNNNI-1\nI-1\nI0\ntb"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(" + NDARRAY + b"(I0\ntVb\ntR"
FORGED = EMPTY + b"(I1\n(I1\nt" + PLAIN_OBJECTS + b"I00\nVABCDEFGH\ntb"


@pytest.mark.parametrize(
    "array", [NDARRAY + b"((I1\ntVO8\nVABCDEFGH\ntR", FORGED, NDARRAY + b"(" + FORGED + b"tR"], ids=range(3)
)
def test_no_bytes_are_taken_for_addresses(tmp_path, array):
    with gzip.open(tmp_path / "mnist.pkl.gz", "wb") as file:
        file.write(array + b".")
    code = (
        "import sys; from pathlib import Path; from cnntrain.data.images import Folders\n"
        "from cnntrain.errors import DataError\n"
        "from cnntrain.data.sources.pickles import nielsen_pickle\n"
        "try: nielsen_pickle(Folders(Path(sys.argv[1]), Path(sys.argv[1])))\n"
        "except DataError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout or "a damaged pickle (TypeError" in done.stdout


def test_arrays_are_made_here(tmp_path):
    labels = PARTS[1][1].astype(np.uint8), PARTS[2][1].astype(">i4")
    parts = (PARTS[0], (np.asfortranarray(PARTS[1][0]), labels[0]), (PARTS[2][0], labels[1]))
    dataset = read(tmp_path, parts)
    assert np.array_equal(dataset.validation.pixels.reshape(-1, 784), PARTS[1][0])
    assert np.array_equal(dataset.validation.labels, PARTS[1][1])
    assert np.array_equal(dataset.test.labels, PARTS[2][1])
    assert dataset.train.pixels.flags.writeable


def test_numbers_of_the_other_byte_order(tmp_path):
    swapped = [(pixels.astype(">f4"), labels.astype(">i8")) for pixels, labels in PARTS]
    dataset = read(tmp_path, swapped)
    assert np.array_equal(dataset.train.pixels.reshape(-1, 784), PARTS[0][0])
    assert dataset.test.labels.tolist() == PARTS[2][1].tolist()


def with_test(pixels, labels):
    return pickle.dumps((PARTS[0], PARTS[1], (pixels, labels)), 2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        pickle.dumps(PARTS, 2)[:1000],
        pickle.dumps([1, 2, 3]),
        pickle.dumps((PARTS[0], PARTS[1])),
        with_test(PARTS[2][0], PARTS[2][1] + 1),
        with_test(PARTS[2][0], PARTS[2][1] - 1),
        with_test(PARTS[2][0], PARTS[2][1][1:]),
        with_test(PARTS[2][0][:0], PARTS[2][1][:0]),
        with_test(PARTS[2][0] * 300, PARTS[2][1]),
        with_test(PARTS[2][0] - 0.5, PARTS[2][1]),
        with_test(PARTS[2][0] * np.float32(np.nan), PARTS[2][1]),
        with_test(PARTS[2][0][:, :700], PARTS[2][1]),
    ],
)
def test_damaged(tmp_path, content):
    with pytest.raises(DataError, match=r"mnist\.pkl\.gz"):
        read(tmp_path, content)


def test_not_gzip_and_missing(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        nielsen_pickle(Folders(tmp_path, tmp_path))
    (tmp_path / "mnist.pkl.gz").write_bytes(pickle.dumps(PARTS, 2))
    with pytest.raises(DataError, match=r"mnist\.pkl\.gz: a truncated or damaged gzip file"):
        nielsen_pickle(Folders(tmp_path, tmp_path))


def test_unpacked(tmp_path):
    (tmp_path / "mnist.pkl").write_bytes(pickle.dumps(PARTS, 2))
    assert len(nielsen_pickle(Folders(tmp_path, tmp_path), "mnist.pkl").test) == len(PARTS[2][1])
