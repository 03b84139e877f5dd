"""The book's pickle: arrays are read, anything else is refused before it can run."""

import gzip
import os
import pickle
import subprocess

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


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        pickle.dumps(PARTS, 2)[:1000],
        pickle.dumps([1, 2, 3]),
        pickle.dumps((PARTS[0], PARTS[1])),
        pickle.dumps((PARTS[0], PARTS[1], (PARTS[2][0], PARTS[2][1] + 5)), 2),
        pickle.dumps((PARTS[0], PARTS[1], (PARTS[2][0] * 300, PARTS[2][1])), 2),
        pickle.dumps((PARTS[0], PARTS[1], (PARTS[2][0][:, :700], PARTS[2][1])), 2),
    ],
)
def test_damaged(tmp_path, content):
    with pytest.raises(DataError, match=r"mnist\.pkl\.gz"):
        read(tmp_path, content)


def test_not_gzip_and_missing(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        nielsen_pickle(Folders(tmp_path, tmp_path))
    (tmp_path / "mnist.pkl.gz").write_bytes(pickle.dumps(PARTS, 2))
    with pytest.raises(DataError, match="gzip"):
        nielsen_pickle(Folders(tmp_path, tmp_path))
