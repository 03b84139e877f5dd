"""`.npz` files, right ones and damaged ones."""

import numpy as np
import pytest

from cnntrain.data.images import Folders, Images
from cnntrain.data.preprocess import Preprocessing
from cnntrain.data.sources.arrays import npz
from cnntrain.errors import DataError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def read(folder, **arrays):
    options = {"classes": arrays.pop("classes")} if "classes" in arrays else {}
    np.savez(folder / "x.npz", **arrays)
    return npz(Folders(folder, folder), "x.npz", **options)


def test_keras_names(tmp_path):
    others = {"x_val": IMAGES[1:2], "y_val": LABELS[1:2], "x_test": IMAGES[:2], "y_test": LABELS[:2] + 2}
    dataset = read(tmp_path, x_train=IMAGES, y_train=LABELS, train_images=IMAGES[:1], train_labels=LABELS[:1], **others)
    assert np.array_equal(dataset.train.pixels, IMAGES[:, None])
    assert np.array_equal(dataset.validation.pixels, IMAGES[1:2, None])
    assert np.array_equal(dataset.test.pixels, IMAGES[:2, None])
    # The last one is of a test image alone.
    assert dataset.classes == ("0", "1", "2", "3")


def test_medmnist_names_and_channels_last(tmp_path):
    images = RANDOM.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
    arrays = {f"{split}_images": images for split in ("train", "val", "test")}
    arrays |= {f"{split}_labels": LABELS[:, None] for split in ("train", "val", "test")}
    dataset = read(tmp_path, **arrays, classes=["a", "b", "c", "d"])
    assert np.array_equal(dataset.validation.pixels, images.transpose(0, 3, 1, 2))
    assert dataset.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("lone", "said"),
    [
        ({"x_test": IMAGES}, r"has `x_test`, but no `y_test` \(it has x_train, y_train, x_test\)"),
        ({"y_val": LABELS}, "has `y_val`, but no `x_val`"),
        ({"test_images": IMAGES, "y_test": LABELS}, "has `y_test`, but no `x_test`"),
    ],
)
def test_images_and_labels_come_in_pairs(tmp_path, lone, said):
    with pytest.raises(DataError, match=rf"x\.npz: {said}"):
        read(tmp_path, x_train=IMAGES, y_train=LABELS, **lone)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_are_last_or_second(tmp_path, channels):
    images = RANDOM.integers(0, 256, (6, 5, 7, channels), dtype=np.uint8)
    expected = images.transpose(0, 3, 1, 2)
    for given in (images, expected):
        assert np.array_equal(read(tmp_path, images=given, labels=LABELS).train.pixels, expected)


def test_floats_stay_as_they_are(tmp_path):
    dataset = read(tmp_path, images=IMAGES / 255, labels=LABELS)
    assert dataset.train.pixels.dtype == np.float32
    assert dataset.train.pixels.max() <= 1


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"images": IMAGES * 1.0, "labels": LABELS}, r"within 0\.\.1"),
        ({"images": np.full((6, 2, 2), 1.25), "labels": LABELS}, r"within 0\.\.1"),
        ({"images": np.full((6, 2, 2), -0.25), "labels": LABELS}, r"within 0\.\.1"),
        (
            {"images": np.where(np.arange(6)[:, None, None] < 4, 0.5, np.full((6, 2, 2), np.nan)), "labels": LABELS},
            r"images: some values are NaN; the first such image is number 4, counted from 0$",
        ),
        ({"images": np.full((6, 2, 2), np.inf), "labels": LABELS}, r"within 0\.\.1"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images: needs one non-negative integer label per image"),
        ({"images": IMAGES}, "no training images; name the arrays x_train and y_train"),
        ({"images": IMAGES, "labels": LABELS - 1}, "non-negative"),
        ({"images": IMAGES, "labels": LABELS[:3]}, "label per image"),
        ({"images": IMAGES, "labels": LABELS.astype(np.uint64) + np.uint64(2**63)}, "non-negative"),
        ({"images": IMAGES, "labels": LABELS * 0.5}, "whole"),
        ({"x_train": IMAGES, "y_train": LABELS[:5]}, r"y_train: .*int64\(5,\) for 6 images"),
        (
            {"x_train": IMAGES, "y_train": np.eye(6)},
            r"y_train: .*\(6, 6\) for 6 images; for one-hot rows, store `labels.argm",
        ),
        (
            {"x_train": IMAGES, "y_train": LABELS.astype(str)},
            r"y_train: .*; store integers, and name the classes in the config, under `npz: classes`",
        ),
        (
            {"x_train": IMAGES, "y_train": LABELS[None]},
            r"y_train: .*int64\(1, 6\) for 6 images; store `labels.reshape\(-1\)`$",
        ),
        ({"x_train": np.full((6, 4, 5), np.inf), "y_train": LABELS}, "some values are infinite"),
        ({"images": IMAGES.astype(np.int32), "labels": LABELS}, "store uint8"),
        ({"images": IMAGES.reshape(6, 20), "labels": LABELS}, "shape"),
        ({"pictures": IMAGES, "labels": LABELS}, "x_train"),
        ({"images": np.array([{}] * 6, dtype=object), "labels": LABELS}, "refused, because it holds pickled objects"),
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


def test_classes_of_one_name(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=np.zeros((3, 2, 2), np.uint8), y_train=np.arange(3))
    with pytest.raises(DataError, match=r"two classes are called `b`; give each a name of its own"):
        npz(Folders(None, tmp_path), str(tmp_path / "x.npz"), classes=["a", "b", "b"])


@pytest.mark.parametrize(("part", "name"), [("val", "validation"), ("test", "test")])
@pytest.mark.parametrize("shape", [(2, 5, 5), (2, 5, 4, 3)])
def test_splits_of_another_shape(tmp_path, shape, part, name):
    expected = rf"training images are 1 x 5 x 4 \(channels, height, width\), the {name} images \d x 5 x \d"
    others = {f"x_{part}": np.zeros(shape, np.uint8), f"y_{part}": LABELS[:2]}
    with pytest.raises(DataError, match=expected):
        read(tmp_path, x_train=IMAGES, y_train=LABELS, **others)


def test_missing(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        npz(Folders(tmp_path, tmp_path), "x.npz")


def records(count, label_bytes=1):
    data = RANDOM.integers(0, 256, (count, label_bytes + 3072), dtype=np.uint8)
    data[:, :label_bytes] %= 3
    return data


def test_any_damage_to_the_zip_file_is_one_message(tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, x_train=np.zeros((3, 4, 4), np.uint8), y_train=np.arange(3))
    whole, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        path.write_bytes(bytes(data))
        try:
            npz(Folders(None, tmp_path), str(path))
        except DataError as error:
            refused += str(path) in str(error)
    assert refused > 100


def test_a_single_array(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match="x.npz: a single array; save images and labels in one with numpy.savez"):
        npz(Folders(tmp_path, tmp_path), "x.npz")


def test_a_side_that_no_checkpoint_takes(tmp_path):
    for side, is_taken in ((2**16 - 1, True), (2**16, False)):
        images = Images(np.zeros((2, 1, 1, side), np.uint8), np.zeros(2, np.int64))
        if is_taken:
            known = Preprocessing.of(images, normalize=False)
            assert Preprocessing.from_dict(known.to_dict()) == known
        else:
            with pytest.raises(DataError, match="images of 1x65536x1 are refused; each must be below 65,536"):
                Preprocessing.of(images, normalize=False)
