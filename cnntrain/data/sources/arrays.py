"""Arrays in `.npz` files, under the names that Keras or MedMNIST give them."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnntrain.data.images import Dataset, Folders, Images
from cnntrain.data.sources.unpacked import check_bytes
from cnntrain.errors import DataError, HostileDataError
from cnntrain.registry import sources

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

MAX_CLASSES = 100_000
NAMES = {
    "train": [("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels")],
    "validation": [("x_val", "y_val"), ("val_images", "val_labels")],
    "test": [("x_test", "y_test"), ("test_images", "test_labels")],
}


@sources.register("npz")
def npz(folders: Folders, /, path: str, classes: list[str] | None = None) -> Dataset:
    """Arrays x_train, y_train, x_test, y_test (or train_images, ..., or images, labels) in one file.

    Images are (images, height, width), or with channels last or second; uint8, or floats in 0..1.
    """
    import numpy as np

    file = folders.file(path)
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            check_bytes(file, sum(member.file_size for member in arrays.zip.infolist()))
            _check_pairs(arrays, file)
            parts = {split: _part(arrays, names, file) for split, names in NAMES.items()}
    except DataError:
        raise
    except Exception as error:
        with file.open("rb") as opened:
            is_single = opened.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
        if is_single and "allow_pickle" not in str(error):
            raise DataError(f"{file}: a single array; save images and labels in one with numpy.savez") from error
        if "allow_pickle" in str(error):
            raise HostileDataError(
                f"{file}: refused, because it holds pickled objects, which could run code"
            ) from error
        # A damaged zip file, or an array in it, fails in any of a dozen ways.
        raise DataError(f"{file}: not a whole .npz file of plain arrays ({error})") from error
    train = parts["train"]
    if train is None:
        raise DataError(f"{file}: no training images; name the arrays x_train and y_train, or images and labels")
    count = 1 + max(int(part.labels.max()) for part in parts.values() if part)
    if count > MAX_CLASSES:
        raise DataError(f"{file}: the label {count - 1} is out of range; there are {MAX_CLASSES:,} classes at most")
    names = tuple(classes) if classes else tuple(str(label) for label in range(count))
    if len(names) < count:
        raise DataError(f"{file}: the label {count - 1} is out of range; `classes` names {len(names)}")
    return Dataset(names, train, parts["validation"], parts["test"])


def _part(arrays: "Arrays", names: list[tuple[str, str]], file: Path) -> Images | None:
    for images, labels in names:
        if images in arrays and labels in arrays:
            # Each access reads the array.
            pixels, truth = arrays[images], arrays[labels]
            _check_labels(truth, len(pixels), f"{file}: {labels}")
            return _checked(pixels, truth.reshape(-1), f"{file}: {images}")
    return None


def _check_pairs(arrays: "Arrays", file: Path) -> None:
    """Raise `DataError` for half of a pair: other images would be set apart in its place, and nobody would know."""
    for pairs in (NAMES["validation"], NAMES["test"]):
        if any(images in arrays and labels in arrays for images, labels in pairs):
            continue
        for there, absent in chain.from_iterable((pair, pair[::-1]) for pair in pairs):
            if there in arrays:
                raise DataError(
                    f"{file}: has `{there}`, but no `{absent}` (it has {', '.join(arrays)}); store both, or neither"
                )


def _checked(images: Any, labels: Any, where: str) -> Images:
    import numpy as np

    if images.size == 0:
        asked = "needs one non-negative integer label per image, and has no images"
        raise DataError(f"{where}: {asked}; leave out both arrays of a split without images")
    if images.dtype.kind == "f":
        images = images.astype(np.float32)
        if np.isnan(images).any():
            first = int(np.isnan(images.reshape(len(images), -1)).any(1).argmax())
            raise DataError(f"{where}: some values are NaN; the first such image is number {first}, counted from 0")
        if np.isinf(images).any():
            raise DataError(f"{where}: some values are infinite; floats must lie within 0..1")
        if not ((images >= 0) & (images <= 1)).all():
            raise DataError(f"{where}: floats must lie within 0..1; divide by their largest value, or store uint8")
    elif images.dtype != np.uint8:
        raise DataError(f"{where}: images are {images.dtype}; store uint8, or floats in 0..1")
    return Images(np.ascontiguousarray(_channels_second(images, where)), labels.astype(np.int64))


def _check_labels(labels: Any, images: int, where: str) -> None:
    """Raise `DataError` where they are not one whole number from 0 on for each image, be it in a column."""
    has = f"has {labels.dtype}{labels.shape} for {images:,} images"
    asked = f"{where}: needs one non-negative integer label per image, {has}"
    if labels.ndim == 2 and labels.shape[1] > 1:
        flat = "for one-hot rows, store `labels.argmax(1)`" if len(labels) == images else "store `labels.reshape(-1)`"
        raise DataError(f"{asked}; {flat}")
    if labels.size != images:
        raise DataError(asked)
    if labels.dtype.kind not in "iu":
        raise DataError(f"{asked}; store integers, and name the classes in the config, under `npz: classes`")
    # As they will be stored: the largest unsigned ones are negative then.
    if images and labels.astype("int64").min() < 0:
        raise DataError(f"{asked}, some of them negative or beyond 63 bits")


def _channels_second(images: Any, where: str) -> Any:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] in (1, 3, 4):
        return images.transpose(0, 3, 1, 2)
    if images.ndim == 4 and images.shape[1] in (1, 3, 4):
        return images
    raise DataError(f"{where}: shape {images.shape} is not (images, height, width) with or without 1, 3 or 4 channels")
