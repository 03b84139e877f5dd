"""CIFAR's binary files, made small; a file with too few records is not the data set."""

import numpy as np
import pytest

from cnntrain.data.images import Folders
from cnntrain.data.sources import cifar
from cnntrain.errors import DataError

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(cifar, "BATCH", 4)


def write(path, labels):
    records = [bytes([*row]) + RANDOM.bytes(cifar.PIXELS) for row in labels]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(records))
    return records


def cifar10(folder):
    return cifar.cifar10(Folders(folder, folder / "cache"))


@pytest.fixture
def ten(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    batches = {
        name: write(folder / f"{name}.bin", [[(3 * start + i) % 10] for i in range(4)])
        for start, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"])
    }
    return folder, batches


def test_cifar10(tmp_path, ten):
    batches = ten[1]
    dataset = cifar10(tmp_path)
    assert dataset.train.pixels.shape == (20, 3, 32, 32)
    assert dataset.train.labels.tolist()[:8] == [0, 1, 2, 3, 3, 4, 5, 6]
    assert dataset.test.labels.tolist() == [5, 6, 7, 8]
    assert dataset.test.pixels[0].tobytes() == batches["test_batch"][0][1:]
    assert dataset.classes[6] == "frog"
    # As it is called where it was downloaded to, and by others.
    ten[0].rename(tmp_path / "CIFAR10")
    assert len(cifar10(tmp_path).train) == 20


@pytest.mark.parametrize(("cut", "word"), [(-1, "truncated"), (-1 - cifar.PIXELS, "truncated"), (None, "damaged")])
def test_cifar10_of_another_length(tmp_path, ten, cut, word):
    path = ten[0] / "data_batch_3.bin"
    data = path.read_bytes()
    path.write_bytes(data[:cut] if cut else data + data)
    with pytest.raises(DataError, match=f"data_batch_3.bin is {word}"):
        cifar10(tmp_path)


def test_cifar10_label_out_of_range(tmp_path, ten):
    write(ten[0] / "test_batch.bin", [[0], [1], [2], [10]])
    with pytest.raises(DataError, match="the label 10 is out of range"):
        cifar10(tmp_path)


@pytest.mark.parametrize(("labels", "expected"), [("fine", [1, 0, 1, 0]), ("coarse", [0, 1, 1, 0])])
def test_cifar100(tmp_path, labels, expected):
    folder = tmp_path / "cifar-100-binary"
    rows = [[0, 1], [1, 0], [1, 1], [0, 0]]
    write(folder / "train.bin", rows * 5)
    write(folder / "test.bin", rows)
    (folder / f"{labels}_label_names.txt").write_text("apple\nbee\n")
    dataset = cifar.cifar100(Folders(tmp_path, tmp_path / "cache"), labels)
    assert dataset.classes == ("apple", "bee")
    assert dataset.test.labels.tolist() == expected
