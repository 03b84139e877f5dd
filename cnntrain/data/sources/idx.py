"""IDX files, the format of MNIST and its kin: a magic number, sizes, then bytes."""

from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast

from cnntrain.data.images import Dataset, Folders, Images
from cnntrain.data.sources.download import fetch, find, put
from cnntrain.data.sources.unpacked import check_bytes
from cnntrain.errors import DataError
from cnntrain.registry import sources

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGES, LABELS = 0x803, 0x801
FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]

# Base address, and the MD5 of the gzipped files in the order of FILES, as their publishers give them.
PUBLISHED = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        [
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ],
    ),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        [
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ],
    ),
    "kmnist": (
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        [
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ],
    ),
}
EMNIST = ("https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e")

# MD5 of the uncompressed files: gzip containers are made anew by every mirror.
MNIST_CONTENT = [
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
]
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
DIGITS, UPPER, LOWER = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
# Lower-case letters that look unlike their upper case; `bymerge` and `balanced` merge the others.
APART = "abdefghnqrt"

EmnistSplit = Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"]
EMNIST_CLASSES: dict[str, str] = {
    "byclass": DIGITS + UPPER + LOWER,
    "bymerge": DIGITS + UPPER + APART,
    "balanced": DIGITS + UPPER + APART,
    "letters": LOWER,
    "digits": DIGITS,
    "mnist": DIGITS,
}


@sources.register("mnist")
def mnist(folders: Folders, /) -> Dataset:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28 (LeCun, Cortes, Burges)."""
    return _published("mnist", folders, tuple(DIGITS), MNIST_CONTENT)


@sources.register("fashion_mnist")
def fashion_mnist(folders: Folders, /) -> Dataset:
    """Fashion-MNIST: 70,000 articles of clothing, 28x28 (Xiao, Rasul, Vollgraf 2017)."""
    return _published("fashion_mnist", folders, tuple(FASHION))


@sources.register("kmnist")
def kmnist(folders: Folders, /) -> Dataset:
    """Kuzushiji-MNIST: 70,000 cursive Japanese characters, 28x28 (Clanuwat et al. 2018)."""
    return _published("kmnist", folders, ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"))


@sources.register("emnist")
def emnist(folders: Folders, /, split: EmnistSplit = "balanced") -> Dataset:
    """EMNIST: handwritten letters and digits, 28x28 (Cohen et al. 2017), in one of its six splits."""
    parts = ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
    files = [f"emnist-{split}-{part}-ubyte" for part in parts]
    place = find(folders, "emnist", files)
    if place is None:
        archive = fetch(folders, "emnist", *EMNIST)
        place = _unzip(archive, files)
    # Its images lie on their side, and its letters count from 1.
    first = 1 if split == "letters" else 0
    dataset = _read_dataset([_there(place / file) for file in files], tuple(EMNIST_CLASSES[split]), first_label=first)
    upright = [
        Images(part.pixels[:].swapaxes(2, 3).copy(), part.labels) for part in (dataset.train, dataset.test) if part
    ]
    return Dataset(dataset.classes, upright[0], test=upright[1])


@sources.register("idx")
def idx(
    folders: Folders,
    /,
    train_images: str,
    train_labels: str,
    test_images: str | None = None,
    test_labels: str | None = None,
    classes: list[str] | None = None,
) -> Dataset:
    """Your own IDX files, gzipped or not; without `classes`, the classes are called 0, 1, 2, ..."""
    if (test_images is None) != (test_labels is None):
        raise DataError("`idx` takes `test_images` and `test_labels` together, or neither")
    named = [name for name in (train_images, train_labels, test_images, test_labels) if name]
    return _read_dataset([_found(folders, name) for name in named], tuple(classes) if classes else None)


def _found(folders: Folders, name: str) -> Path:
    """The file, gzipped or not, in the named folder, or else here."""
    if folders.named is not None and (there := _there(folders.named / name)).is_file():
        return there
    return _there(folders.resolve(name))


def _published(name: str, folders: Folders, classes: tuple[str, ...], content: list[str] | None = None) -> Dataset:
    # Only of MNIST itself do we know the content, whatever folder it lies in.
    place = find(folders, name, FILES, is_mistakable=content is None)
    if place is None:
        base, checksums = PUBLISHED[name]
        for file, md5 in zip(FILES, checksums, strict=True):
            place = fetch(folders, name, f"{base}{file}.gz", md5).parent
    assert place is not None
    return _read_dataset([_there(place / file) for file in FILES], classes, content)


def _there(path: Path) -> Path:
    """The path itself or with `.gz` behind it, whichever is there."""
    zipped = Path(f"{path}.gz")
    return zipped if zipped.is_file() and not path.is_file() else path


def _read_dataset(
    files: list[Path], classes: tuple[str, ...] | None, content: list[str] | None = None, first_label: int = 0
) -> Dataset:
    checksums: list[str | None] = list(content) if content else [None] * len(files)
    arrays = [
        read_idx(file, IMAGES if index % 2 == 0 else LABELS, checksums[index]) for index, file in enumerate(files)
    ]
    known = classes or tuple(str(label) for label in range(int(arrays[1].max(initial=0)) + 1))
    parts = [
        _pair(arrays[i], arrays[i + 1], files[i], files[i + 1], len(known), first_label)
        for i in range(0, len(files), 2)
    ]
    return Dataset(known, parts[0], test=parts[1] if len(parts) > 1 else None)


def _pair(
    images: "NDArray[np.uint8]",
    labels: "NDArray[np.uint8]",
    image_file: Path,
    label_file: Path,
    classes: int,
    first_label: int,
) -> Images:
    if images.size == 0:
        raise DataError(f"{image_file}: holds no images")
    if len(images) != len(labels):
        raise DataError(f"{image_file} has {len(images):,} images, but {label_file} has {len(labels):,} labels")
    numbers = labels.astype("int64") - first_label
    if not 0 <= int(numbers.min()) <= int(numbers.max()) < classes:
        wrong = next(label for label in numbers.tolist() if not 0 <= label < classes) + first_label
        raise DataError(f"{label_file}: the label {wrong} is out of range; there are {classes} classes")
    return Images(images[:, None], numbers)


def read_idx(path: Path, magic: int, md5: str | None = None) -> "NDArray[np.uint8]":
    """The array of unsigned bytes in an IDX file. Raises `DataError` where it is not whole, or another."""
    import hashlib
    import zlib

    import numpy as np

    if path.exists() and not path.is_file():
        raise DataError(f"{path}: not a file")
    try:
        with _open(path) as file:
            header, shape = _header(file, path, magic)
            size = int(np.prod(shape, dtype=object))
            check_bytes(path, size)
            body = _read_all(file, size + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: a truncated or damaged gzip file ({error})") from error
    if len(body) != size:
        amount = "is truncated: it has fewer" if len(body) < size else "is damaged: it has more"
        raise DataError(f"{path} {amount} bytes than the {size:,} that its header claims")
    if md5 and hashlib.md5(header + body, usedforsecurity=False).hexdigest() != md5:
        raise DataError(f"{path}: not the published file; for your own data, use the source `idx`")
    return np.frombuffer(body, np.uint8).reshape(shape).copy()


def _open(path: Path) -> IO[bytes]:
    import gzip

    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _header(file: IO[bytes], path: Path, magic: int) -> tuple[bytes, tuple[int, ...]]:
    import struct

    dimensions = magic & 0xFF
    header = file.read(4 + 4 * dimensions)
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path} is truncated: it ends within its header")
    found, *shape = struct.unpack(f">{1 + dimensions}I", header)
    if found != magic:
        raise DataError(f"{path}: not an IDX file of this kind: its magic number is {found:#x}, not {magic:#x}")
    return header, tuple(shape)


def _read_all(file: IO[bytes], limit: int) -> bytes:
    """Up to `limit` bytes, in chunks, so that a header can't make us reserve what the file doesn't hold."""
    chunks = []
    while limit > 0 and (chunk := file.read(min(limit, 2**22))):
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


def _unzip(archive: Path, files: list[str]) -> Path:
    import zipfile

    with zipfile.ZipFile(archive) as packed:
        for file in files:
            # Members are read by their full names and written under ours, so that no path of theirs is used.
            with packed.open(f"gzip/{file}.gz") as source:
                put(source, archive.parent / f"{file}.gz")
    return archive.parent
