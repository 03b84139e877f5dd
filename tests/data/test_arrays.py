"""`.npz` files and CIFAR's binaries."""

import numpy as np
import pytest

from cnntrain.data.images import Folders
from cnntrain.data.sources.arrays import npz
from cnntrain.data.sources.cifar import CIFAR10, cifar10, cifar100
from cnntrain.errors import DataError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def read(folder, **arrays):
    options = {"classes": arrays.pop("classes")} if "classes" in arrays else {}
    np.savez(folder / "x.npz", **arrays)
    return npz(Folders(folder, folder), "x.npz", **options)


def test_keras_names(tmp_path):
    dataset = read(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=LABELS[:2])
    assert np.array_equal(dataset.train.pixels, IMAGES[:, None])
    assert len(dataset.test) == 2
    assert dataset.classes == ("0", "1", "2")


def test_medmnist_names_and_channels_last(tmp_path):
    images = RANDOM.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
    arrays = {f"{split}_images": images for split in ("train", "val", "test")}
    arrays |= {f"{split}_labels": LABELS[:, None] for split in ("train", "val", "test")}
    dataset = read(tmp_path, **arrays, classes=["a", "b", "c"])
    assert np.array_equal(dataset.validation.pixels, images.transpose(0, 3, 1, 2))
    assert dataset.classes == ("a", "b", "c")


def test_floats_stay_as_they_are(tmp_path):
    dataset = read(tmp_path, images=IMAGES / 255, labels=LABELS)
    assert dataset.train.pixels.dtype == np.float32
    assert dataset.train.pixels.max() <= 1


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"images": IMAGES * 1.0, "labels": LABELS}, r"within 0\.\.1"),
        ({"images": np.full((6, 2, 2), np.nan), "labels": LABELS}, r"within 0\.\.1"),
        ({"images": IMAGES, "labels": LABELS - 1}, "non-negative"),
        ({"images": IMAGES, "labels": LABELS[:3]}, "label an image"),
        ({"images": IMAGES, "labels": LABELS * 0.5}, "whole"),
        ({"images": IMAGES.astype(np.int32), "labels": LABELS}, "store uint8"),
        ({"images": IMAGES.reshape(6, 20), "labels": LABELS}, "shape"),
        ({"pictures": IMAGES, "labels": LABELS}, "x_train"),
        ({"images": np.array([{}] * 6, dtype=object), "labels": LABELS}, "plain arrays"),
        ({"images": IMAGES, "labels": LABELS, "classes": ["a"]}, "out of range"),
    ],
)
def test_bad_arrays(tmp_path, arrays, expected):
    with pytest.raises(DataError, match=expected):
        read(tmp_path, **arrays)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04nonsense"])
def test_damaged_files(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz"):
        npz(Folders(tmp_path, tmp_path), "x.npz")


def test_missing(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        npz(Folders(tmp_path, tmp_path), "x.npz")


def records(count, label_bytes=1):
    data = RANDOM.integers(0, 256, (count, label_bytes + 3072), dtype=np.uint8)
    data[:, :label_bytes] %= 3
    return data


def test_cifar10(tmp_path):
    files = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    arrays = [records(4) for _ in files]
    for file, array in zip(files, arrays, strict=True):
        array.tofile(tmp_path / file)
    dataset = cifar10(Folders(tmp_path, tmp_path))
    assert dataset.classes == tuple(CIFAR10)
    assert np.array_equal(dataset.train.pixels[5], arrays[1][1, 1:].reshape(3, 32, 32))
    assert dataset.test.labels.tolist() == arrays[5][:, 0].tolist()
    (tmp_path / "test_batch.bin").write_bytes(arrays[5].tobytes()[:-1])
    with pytest.raises(DataError, match=r"test_batch\.bin is truncated"):
        cifar10(Folders(tmp_path, tmp_path))


def test_cifar100(tmp_path):
    train, test = records(5, 2), records(3, 2)
    train.tofile(tmp_path / "train.bin")
    test.tofile(tmp_path / "test.bin")
    (tmp_path / "fine_label_names.txt").write_text("apple\nbear\nclock\n")
    (tmp_path / "coarse_label_names.txt").write_text("fruit\nanimal\nthing\n")
    folders = Folders(tmp_path, tmp_path)
    assert cifar100(folders).train.labels.tolist() == train[:, 1].tolist()
    assert cifar100(folders, "coarse").test.labels.tolist() == test[:, 0].tolist()
    assert cifar100(folders, "coarse").classes == ("fruit", "animal", "thing")
