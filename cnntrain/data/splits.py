"""Training, validation and test images: three splits, set apart by stated rules, none ever standing in for another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnntrain.config.schema import DataConfig, SplitConfig
from cnntrain.data.images import DIGEST_BYTES, Dataset, Images
from cnntrain.errors import DataError
from cnntrain.text import listed

# Of the brightest pixel that there can be.
DARK = 0.065
# Of an accuracy, in 0..1: what a single image should not be worth.
POINT = 0.01
DEFAULT_TEST = SplitConfig(size=0.2, seed=0)
DEFAULT_VALIDATION = SplitConfig(size=0.1, seed=0)


@dataclass(frozen=True, eq=False)
class Splits:
    """The images of each split, and the names of their classes.

    `unused` counts the source's own validation images, where the config has others set apart in their place.
    """

    classes: tuple[str, ...]
    train: Images
    validation: Images
    test: Images
    unused: int = 0

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each split's pixels and labels."""
        return {
            "train": self.train.fingerprint,
            "validation": self.validation.fingerprint,
            "test": self.test.fingerprint,
        }


def split(dataset: Dataset, config: DataConfig) -> Splits:
    """Set validation and test images apart where the source has not done so, or the config says how.

    Raises `DataError` for a split that the images do not allow.
    """
    train, test, validation = dataset.train, dataset.test, dataset.validation
    if test is None:
        train, test = _set_apart(train, config.test or DEFAULT_TEST, "test", dataset)
    elif config.test is not None:
        raise DataError("`data.test`: the source has its own test set; leave out this key")
    unused = 0
    if config.validation is not None or validation is None:
        unused = len(validation or ())
        train, validation = _set_apart(train, config.validation or DEFAULT_VALIDATION, "validation", dataset)
    if config.limit is not None:
        train = train.take(slice(0, config.limit))
    _check_classes(train, {"validation": validation, "test": test}, dataset)
    return Splits(dataset.classes, train, validation, test, unused)


def _check_classes(train: Images, others: dict[str, Images], dataset: Dataset) -> None:
    """Raise `DataError` for a class that is asked about but never shown."""
    for name, images in others.items():
        missing = np.setdiff1d(images.labels, train.labels)
        if not missing.size:
            continue
        names = ", ".join(dataset.classes[label] for label in missing)
        if np.setdiff1d(missing, dataset.train.labels).size:
            raise DataError(
                f"the data set has no training images of {names}, but {name} images; add some, or remove these "
                f"(if the classes are numbers, both must count alike, from 0)"
            )
        raise DataError(
            f"no training images are left of {names}, but there are {name} images; if the images are "
            f"sorted by class, draw with `data.{name}: {{size: 0.1, seed: 0}}`, and leave out `data.limit`"
        )


def _check_mixed(images: Images, apart: Images, name: str, classes: tuple[str, ...]) -> None:
    """Raise `DataError` where the last images are of the last class alone, for the images come class by class."""
    changes = np.count_nonzero(np.diff(images.labels))
    if 0 < changes == len(np.unique(images.labels)) - 1:
        raise DataError(
            f"`data.{name}`: the last {len(apart):,} images, which it sets apart, are all of "
            f"{classes[apart.labels[-1]]}, because the images are sorted by class; "
            f"draw with `data.{name}: {{size: 0.1, seed: 0}}`"
        )


def _set_apart(images: Images, how: SplitConfig, name: str, dataset: Dataset) -> tuple[Images, Images]:
    """(what remains, what is set apart)."""
    classes = dataset.classes
    count = round(how.size * len(images)) if how.size < 1 else int(how.size)
    if not 0 < count < len(images):
        raise DataError(f"`data.{name}`: {count:,} of {len(images):,} images can't be set apart")
    if how.seed is None:
        first, last = images.take(slice(0, len(images) - count)), images.take(slice(len(images) - count, None))
        _check_classes(first, {name: last}, dataset)
        _check_mixed(images, last, name, classes)
        return first, last
    counts = np.bincount(images.labels, minlength=len(classes))
    single = [name for name, number in zip(classes, counts, strict=True) if number == 1]
    if single:
        said = f"{count:,} images can't be drawn evenly from all classes"
        raise DataError(f"`data.{name}`: {said}: there is only one of {', '.join(single)}; add images, or a split")
    different = np.count_nonzero(counts)
    if min(count, len(images) - count) < different:
        raise DataError(
            f"`data.{name}`: {count:,} of {len(images):,} images can't be drawn evenly from {different:,} classes; "
            f"ask for one of each at least, as in `data.{name}: {{size: {different}, seed: {how.seed}}}`"
        )
    from sklearn.model_selection import train_test_split

    indices = np.arange(len(images))
    kept, apart = train_test_split(indices, test_size=count, random_state=how.seed, stratify=images.labels)
    return images.take(kept), images.take(apart)


def remarks(splits: Splits, is_normalized: bool = False, weighs_classes: bool = False) -> Iterator[str]:
    """What makes figures worth less than they seem, or training harder than it needs to be."""
    if weighs_classes:
        yield from _rare(splits)
    yield from _darkness(splits.train, is_normalized)
    if splits.unused:
        said = f"the source's own {splits.unused:,} validation images are not used"
        yield f"{said}, because `data.validation` sets others apart; set it to null to use them"
    trained = np.unique(splits.train.labels)
    absent = [name for number, name in enumerate(splits.classes) if number not in trained]
    if absent:
        first = "; labels count from 0: subtract 1 from yours if they begin at 1" if absent == ["0"] else ""
        yield f"no training image is of {_part(absent, splits.classes)}{first}"
    for name, images in (("validation", splits.validation), ("test", splits.test)):
        yield from _repeated(name, images, "training", splits.train)
        missing = [splits.classes[label] for label in np.setdiff1d(trained, images.labels)]
        if missing:
            of = _part(missing, splits.classes)
            yield f"no {name} image is of {of}: {name} accuracy does not cover them"
    yield from _repeated("test", splits.test, "validation", splits.validation)


def _rare(splits: Splits) -> Iterator[str]:
    """What is to be said of a class of which few validation images decide."""
    counts = np.bincount(splits.validation.labels, minlength=len(splits.classes))
    fewest = counts[counts > 0].min()
    weight = 1 / (np.count_nonzero(counts) * fewest)
    if weight > POINT:
        rarest = [name for name, count in zip(splits.classes, counts, strict=True) if count == fewest]
        said = f"only {fewest:,} validation {_images_are(fewest)} of {'each of ' * (len(rarest) > 1)}{listed(rarest)}"
        yield f"{said}: each is {100 * weight:.1f} points of balanced accuracy"


def _repeated(name: str, images: Images, other: str, others: Images) -> Iterator[str]:
    same = duplicates(others, images)
    if len(same):
        named = "" if images.paths is None else f", the first of them {images.paths[same[0]]}"
        yield f"{len(same):,} {name} {_images_are(len(same))} also among the {other} images{named}"


def _images_are(count: int) -> str:
    return "image is" if count == 1 else "images are"


def _part(names: Sequence[str], classes: Sequence[str]) -> str:
    return f"{len(names):,} of {len(classes):,} classes ({listed(names)})"


def _darkness(images: Images, is_normalized: bool) -> Iterator[str]:
    """What is to be said of images that hardly differ from black; as many are looked at as need little memory."""
    some = next(images.chunks())
    is_bytes = some.dtype == np.uint8
    brightest = some.max() / (255 if is_bytes else 1)
    if not brightest:
        yield f"the first {len(some):,} training images are black: there is nothing to be seen"
    elif brightest < DARK and not is_normalized:
        yield (
            f"the training images are almost black: the brightest pixel of {len(some):,} of them has "
            f"{100 * brightest:.2g} % of the most; set `data.normalize: true`"
            + (", and brighten files of more than 8 bits first, as each value becomes a byte" if is_bytes else "")
        )


def duplicates(train: Images, others: Images) -> NDArray[np.int64]:
    """The places among the others of those that are, pixel by pixel, also among the training images."""
    known, asked = (images.digests.view(f"V{DIGEST_BYTES}").ravel() for images in (train, others))
    return np.flatnonzero(np.isin(asked, known))
