"""Three splits by stated rules; the test set never stands in for validation."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from cnntrain.config.schema import DataConfig
from cnntrain.data.images import Dataset, Folders, Images
from cnntrain.data.sources.digits import digits
from cnntrain.data.splits import Splits, duplicates, remarks, split
from cnntrain.errors import DataError


def images(count, classes=4, start=0):
    pixels = 1 - np.arange(start, start + count, dtype=np.float32)[:, None, None, None] / 2**16
    return Images(pixels, np.arange(count) % classes)


def ids(part):
    return ((1 - part.pixels.ravel()) * 2**16).astype(int).tolist()


NAMES = ("a", "b", "c", "d")


def config(**data):
    return DataConfig.model_validate({"source": "digits", **data})


def test_the_last_ones_as_in_the_book():
    splits = split(Dataset(NAMES, images(100), test=images(20, start=500)), config(validation=30))
    assert ids(splits.train) == list(range(70))
    assert ids(splits.validation) == list(range(70, 100))
    assert ids(splits.test) == list(range(500, 520))


def test_drawn_by_class_and_always_the_same():
    dataset = Dataset(NAMES, images(200))
    one, other = split(dataset, config()), split(dataset, config())
    assert ids(one.train) == ids(other.train)
    said = split(dataset, config(test={"size": 0.2, "seed": 0}, validation={"size": 0.1, "seed": 0}))
    assert ids(one.train) == ids(said.train)
    assert (len(one.train), len(one.validation), len(one.test)) == (144, 16, 40)
    assert sorted(ids(one.train) + ids(one.validation) + ids(one.test)) == list(range(200))
    for part in (one.train, one.validation, one.test):
        assert len(set(np.bincount(part.labels))) == 1


def test_another_seed_draws_others():
    dataset = Dataset(NAMES, images(200))
    first, second = (split(dataset, config(validation={"size": 0.1, "seed": seed})) for seed in (0, 1))
    assert ids(first.validation) != ids(second.validation)
    assert ids(first.test) == ids(second.test)


def test_the_sources_own_validation_is_taken():
    dataset = Dataset(NAMES, images(40), images(8, start=100), images(8, start=200))
    assert ids(split(dataset, config()).validation) == list(range(100, 108))
    splits = split(dataset, config(validation=5))
    assert ids(splits.validation) == list(range(35, 40))
    assert ids(splits.train) == list(range(35))
    assert list(remarks(splits)) == [
        "the source's own 8 validation images are not used, because `data.validation` sets others apart; "
        "set it to null to use them"
    ]
    assert not list(remarks(split(dataset, config())))


@pytest.mark.parametrize(("size", "count"), [(1, 1), (99, 99), (0.256, 26), (0.994, 99)])
def test_from_1_on_a_size_is_a_number_of_images(size, count):
    alike = Images(images(100).pixels, np.zeros(100, np.int64))
    splits = split(Dataset(NAMES, alike, test=alike), config(validation=size))
    assert ids(splits.validation) == list(range(100 - count, 100))


def test_limit():
    splits = split(Dataset(NAMES, images(100), test=images(20)), config(validation=30, limit=10))
    assert ids(splits.train) == list(range(10))
    assert len(splits.validation) == 30


@pytest.mark.parametrize(
    ("dataset", "data", "expected"),
    [
        (Dataset(NAMES, images(50), test=images(9)), {"test": 0.2}, "has its own test set"),
        (Dataset(NAMES, images(50)), {"validation": 100}, "can't be set apart"),
        (Dataset(NAMES, images(50), test=images(9)), {"validation": 50}, "50 of 50 images can't be set apart"),
        (Dataset(NAMES, images(50), test=images(9)), {"validation": 0.001}, "0 of 50 images can't be set apart"),
        (Dataset(NAMES, images(50), test=images(9)), {"validation": 10, "limit": 2}, "no .* are left of c, d, but"),
        (
            Dataset(NAMES, images(50, 3), test=images(9)),
            {},
            "the data set has no training images of d, but test images; add some, or remove these",
        ),
        (Dataset(NAMES, images(5)), {}, "can't be drawn evenly from all classes: there is only one of b, c, d;"),
    ],
)
def test_what_can_not_be(dataset, data, expected):
    with pytest.raises(DataError, match=expected):
        split(dataset, config(**data))


def test_duplicates_are_counted():
    splits = split(Dataset(NAMES, images(100), test=images(20, start=95)), config(validation=2))
    assert duplicates(splits.train, splits.test).tolist() == [0, 1, 2]
    twice = replace(splits, test=splits.test.take(np.array([0, 0, 1, 5])))
    assert duplicates(twice.train, twice.test).tolist() == [0, 1, 2]


def test_a_fingerprint_is_of_images_and_labels():
    part = images(10)
    digests = b"".join(hashlib.sha256(image.tobytes()).digest()[:16] for image in part.pixels)
    assert part.fingerprint == hashlib.sha256(digests + part.labels.tobytes()).hexdigest()
    splits = split(Dataset(NAMES, images(100), test=part), config(validation=30))
    assert splits.fingerprints() == {
        "train": images(70).fingerprint,
        "validation": images(100).take(slice(70, 100)).fingerprint,
        "test": part.fingerprint,
    }


def test_all_parts_take_memory():
    assert Dataset(NAMES, images(10), images(4), images(3)).nbytes == 17 * 4
    assert Dataset(NAMES, images(10)).nbytes == 10 * 4


def test_digits_come_along(tmp_path):
    dataset = digits(Folders(None, tmp_path))
    assert dataset.train.pixels.shape == (1797, 1, 8, 8)
    assert dataset.train.pixels.dtype == np.uint8
    assert dataset.train.pixels.max() == 255
    # Of 17 levels, evenly spread.
    assert np.unique(dataset.train.pixels).tolist() == [round(level * 255 / 16) for level in range(17)]
    assert np.bincount(dataset.train.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_last_ones_of_sorted_images_would_take_a_whole_class():
    sorted_images = Images(np.zeros((40, 1, 2, 2), np.uint8), np.arange(40) // 10)
    with pytest.raises(DataError, match="no training images are left of d, but there are validation images"):
        split(Dataset(NAMES, sorted_images, test=sorted_images), config(validation=10))


@pytest.mark.parametrize("name", ["validation", "test"])
def test_the_last_ones_of_sorted_images_would_be_of_one_class(name):
    ordered = Images(np.zeros((80, 1, 2, 2), np.uint8), np.arange(80) // 20)
    dataset = Dataset(NAMES, ordered, test=ordered if name == "validation" else None)
    expected = rf"`data.{name}`: the last 8 images, .* are all of d, .*{{size: 0.1, seed: 0}}"
    with pytest.raises(DataError, match=expected):
        split(dataset, config(**{name: 8}))
    drawn = split(dataset, config(**{name: {"size": 8, "seed": 0}}))
    assert np.bincount(getattr(drawn, name).labels).tolist() == [2, 2, 2, 2]


def test_one_class_alone_is_in_no_order():
    dataset = Dataset(("a",), Images(np.zeros((10, 1, 2, 2), np.uint8), np.zeros(10, np.int64)))
    assert len(split(dataset, config(validation=2, test=2)).validation) == 2


def test_what_makes_figures_worth_less_is_told():
    both = split(Dataset(NAMES, images(100), test=images(20, start=95)), config(validation=20))
    assert list(remarks(both)) == ["5 test images are also among the validation images"]
    splits = split(Dataset(NAMES, images(100), test=images(20, start=100)), config(validation=20))
    assert list(remarks(splits)) == []
    lacking = splits.validation.take(np.flatnonzero(splits.validation.labels != 2))
    named = replace(splits.train.take(slice(4, 6)), paths=np.array(["x/4.png", "x/5.png"], dtype=object))
    assert list(remarks(replace(splits, validation=lacking, test=named))) == [
        "no validation image is of 1 of 4 classes (c): validation accuracy does not cover them",
        "2 test images are also among the training images, the first of them x/4.png",
        "no test image is of 2 of 4 classes (c, d): test accuracy does not cover them",
    ]
    pixels = np.concatenate([splits.validation.pixels, splits.train.pixels[:1]])
    again = Images(pixels, np.append(splits.validation.labels, splits.train.labels[0]))
    assert list(remarks(replace(splits, validation=again))) == ["1 validation image is also among the training images"]


def test_classes_without_training_images_are_told():
    one = split(Dataset(("0", "1", "2", "3"), images(100), test=images(20, start=95)), config(validation=20))
    shifted = replace(one, classes=("0", "1", "2", "3", "4"), train=replace(one.train, labels=one.train.labels + 1))
    first, *_ = remarks(replace(shifted, validation=shifted.train, test=shifted.train))
    assert first == (
        "no training image is of 1 of 5 classes (0); labels count from 0: subtract 1 from yours if they begin at 1"
    )
    first, *_ = remarks(replace(one, classes=("0", "1", "2", "3", "more")))
    assert first == "no training image is of 1 of 5 classes (more)"


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.uint8([1, 0]), "0.39"),
        (np.uint8([12, 0]), "4.7"),
        (np.uint8([13, 0]), "5.1"),
        # What is left of 12 bits in files of 16.
        (np.uint8([16, 0]), "6.3"),
        (np.uint8([17, 0]), None),
        (np.float32([1 / 255, 0]), "0.39"),
        (np.float32([1, 0]), None),
    ],
)
def test_images_that_are_almost_black_are_told(pixels, said):
    dark = Images(np.tile(pixels, 40).reshape(40, 1, 1, 2), np.arange(40) % 2)
    found = [line for line in remarks(Splits(("a", "b"), dark, dark, dark)) if "black" in line]
    assert found == (
        [f"the training images are almost black: the brightest pixel of 40 of them has {said} % of the most; "
         "set `data.normalize: true`"
         + ", and brighten files of more than 8 bits first, as each value becomes a byte" * (pixels.dtype == np.uint8)]
        if said else []
    )  # fmt: skip
    assert not any("black" in line for line in remarks(Splits(("a", "b"), dark, dark, dark), is_normalized=True))


@pytest.mark.parametrize("is_normalized", [True, False])
def test_images_in_which_there_is_nothing_are_told(is_normalized):
    black = Images(np.zeros((40, 1, 1, 2), np.uint8), np.arange(40) % 2)
    first, *_ = remarks(Splits(("a", "b"), black, black, black), is_normalized)
    assert first == "the first 40 training images are black: there is nothing to be seen"


def test_fewer_images_than_classes_can_not_be_drawn_evenly():
    few = Dataset(NAMES, images(12), test=images(9))
    said = r"`data.validation`: 1 of 12 images can't be drawn evenly from 4 classes; .* {size: 4, seed: 0}"
    with pytest.raises(DataError, match=said):
        split(few, config())
    assert sorted(split(few, config(validation={"size": 4, "seed": 0})).validation.labels) == [0, 1, 2, 3]
    with pytest.raises(DataError, match="9 of 12 images can't be drawn evenly"):
        split(few, config(validation={"size": 9, "seed": 0}))


def test_a_class_of_which_few_images_decide_is_named():
    def of(counts):
        labels = np.repeat(np.arange(len(counts)), counts)
        pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 1, 6, 6), np.uint8)
        images = Images(pixels, labels)
        return Splits(("a", "b", "c"), images, images, images)

    def told(counts, weighs_classes=True):
        return [line for line in remarks(of(counts), weighs_classes=weighs_classes) if "balanced accuracy" in line]

    assert told([90, 11, 0]) == ["only 11 validation images are of b: each is 4.5 points of balanced accuracy"]
    several = "only 2 validation images are of each of b, c: each is 16.7 points of balanced accuracy"
    assert told([90, 2, 2]) == [several]
    assert told([90, 1, 40]) == ["only 1 validation image is of b: each is 33.3 points of balanced accuracy"]
    assert told([90, 11, 0], weighs_classes=False) == told([900, 50, 0]) == told([90, 34, 34]) == []
