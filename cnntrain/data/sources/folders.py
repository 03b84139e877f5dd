"""Image files in folders named after their classes, or listed in a CSV file."""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from cnntrain.data.images import Dataset, Folders, Images, check_class
from cnntrain.data.sources.pictures import Channels, Fit, is_picture, kinds_of, pictures_in
from cnntrain.errors import DataError
from cnntrain.files import read_bytes
from cnntrain.registry import sources
from cnntrain.strict import Size, pair
from cnntrain.text import shortened


def _with_size(fit: Fit, given: ValidationInfo) -> Fit:
    if fit != "stretch" and given.data.get("size", ...) is None:
        raise ValueError(f"`fit: {fit}` needs a `size`")
    return fit


FitToSize = Annotated[Fit, AfterValidator(_with_size)]
MAX_LISTING = 2**30
# In characters.
LONGEST_SHOWN = 60
Listing = list[tuple[Path, str]]
SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
# What nobody calls a class; `valid` and `Train` may be one, and then there are no classes in it.
PLAIN = ("train", "validation", "val", "test")


@sources.register("image_folder")
def image_folder(
    folders: Folders,
    /,
    path: str,
    size: Size | None = None,
    channels: Channels | None = None,
    fit: FitToSize = "stretch",
) -> Dataset:
    """`path/train/<class>/*` and `path/test/<class>/*`, or `path/<class>/*` alone, in any of Pillow's formats.

    `path/val` (or `valid`, or `validation`) may be beside them; other folders there are not read.
    `size` is one number or [height, width]. An image of another aspect ratio is stretched to it; or `fit: crop` keeps
    its middle, `fit: pad` all of it, between black borders. `channels` are 1 if all images are grey, else 3, with what
    is transparent on black; with 4, the fourth says how opaque a pixel is. Values become bytes, 16-bit ones divided by
    257; of several pages or frames the first is read. `npz` takes finer values.
    """
    root = folders.folder(path)
    found = _splits(root) or {"train": root}
    if "train" not in found:
        there = next(iter(found.values()))
        raise DataError(
            f"{root}: has `{there.name}`, but no `train` folder; add one, or name {there} itself "
            f"(if `{there.name}` is a class, put the classes into a folder `train`)"
        )
    passed_over: Counter[str] = Counter()
    listings = {split: _listing(folder, root, passed_over) for split, folder in found.items()}
    note = f"{root}: not read ({kinds_of(passed_over)})" if passed_over else ""
    return _dataset([root], listings, size, channels, fit, folders, note)


@sources.register("csv")
def csv_file(
    folders: Folders,
    /,
    path: str,
    test: str | None = None,
    validation: str | None = None,
    size: Size | None = None,
    channels: Channels | None = None,
    fit: FitToSize = "stretch",
) -> Dataset:
    """Rows under a header `path,label`; image paths are relative to the CSV file's folder.

    `test` and `validation` are files of the same kind. Other columns are not read. For `size`, `channels` and `fit` see
    `image_folder`.
    """
    named = {"train": path, "test": test, "validation": validation}
    files = {split: folders.file(name) for split, name in named.items() if name is not None}
    listings = {split: _rows(file) for split, file in files.items()}
    return _dataset(list(files.values()), listings, size, channels, fit, folders)


def _dataset(
    origin: list[Path],
    listings: dict[str, Listing],
    size: int | list[int] | None,
    channels: Channels | None,
    fit: Fit,
    folders: Folders,
    note: str = "",
) -> Dataset:
    import numpy as np

    # Processes and locks, which a mistake in a config need not wait for.
    from cnntrain.data.sources.decode import decoded

    # Classes are those of the training images, and every split's labels are found by name.
    classes = sorted({label for _, label in listings["train"]})
    numbers = {name: number for number, name in enumerate(classes)}
    for split, listing in listings.items():
        for path, label in listing:
            if label not in numbers:
                raise DataError(f"{path}: this {split} image is of the class {label}, which no training image has")
    everything = [item for listing in listings.values() for item in listing]
    files = [path for path, _ in everything]
    shape = pair(size) if size else None
    pixels = decoded(origin, files, shape, channels, folders.cache, folders.reporter, note, fit)
    parts: dict[str, Images] = {}
    start = 0
    for split, listing in listings.items():
        labels = np.array([numbers[label] for _, label in listing], dtype=np.int64)
        paths = np.array([str(path) for path, _ in listing], dtype=object)
        parts[split] = Images(pixels.take(slice(start, start + len(listing))), labels, paths)
        start += len(listing)
    return Dataset(tuple(classes), parts["train"], parts.get("validation"), parts.get("test"))


def _splits(root: Path) -> dict[str, Path]:
    """The folders of `root` that are named after a split."""
    inside = sorted(path for path in root.iterdir() if path.is_dir())
    found = {
        split: [path for path in inside if path.name.lower() in names and (path.name in PLAIN or _folders(path))]
        for split, names in SPLITS.items()
    }
    for split, paths in found.items():
        if len(paths) > 1:
            named = " and ".join(f"`{path.name}`" for path in paths)
            raise DataError(f"{root}: {named} are both names for the {split} images; keep one")
    return {split: paths[0] for split, paths in found.items() if paths}


def _listing(folder: Path, root: Path, passed_over: Counter[str]) -> Listing:
    listing: Listing = []
    inside = root.resolve()
    classes = _folders(folder)
    if not classes:
        raise DataError(f"{folder}: no folders with images; each class needs its own folder")
    beside = sum(1 for path in folder.iterdir() if is_picture(path) and not path.name.startswith("."))
    if beside:
        passed_over["images beside the folders of classes"] += beside
    for each in classes:
        _check_inside(each, inside, root)
        check_class(each.name, f"{folder}: ")
        others: Counter[str] = Counter()
        paths = list(pictures_in(each, others))
        if not paths:
            there = f" that can be read ({kinds_of(others)})" if others else ""
            raise DataError(f"{each}: the class has no images{there}; add some, or remove the folder")
        passed_over += others
        for path in paths:
            if path.is_symlink():
                _check_inside(path, inside, root)
        listing += [(path, each.name) for path in paths]
    return listing


def _folders(folder: Path) -> list[Path]:
    """The visible folders in one."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _check_inside(path: Path, inside: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(inside):
        raise DataError(f"{path}: refused, because it is a link that leads out of {root}")


def _rows(path: Path) -> Listing:
    try:
        text = read_bytes(path, MAX_LISTING).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if not {"path", "label"} <= set(reader.fieldnames or ()):
            there = shortened(",".join(reader.fieldnames or ()), LONGEST_SHOWN)
            raise DataError(f"{path}: its first line must name the columns `path` and `label`, not {there!a}")
        # Its own count of lines, as blank ones are no rows.
        rows = [(reader.line_num, path.parent / (row["path"] or ""), (row["label"] or "").strip()) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: can't be read as a CSV file ({error})") from error
    if not rows:
        raise DataError(f"{path}: it lists no images")
    for number, image, label in rows:
        if not label or not image.is_file():
            raise DataError(f"{path}:{number}: {'no label' if not label else f'there is no file {image}'}")
        check_class(label, f"{path}:{number}: ")
    return [(image, label) for _, image, label in rows]
