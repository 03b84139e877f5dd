"""IDX files: the genuine MNIST, one's own, and damaged ones."""

import gzip
import hashlib
import string
import struct
import zipfile

import numpy as np
import pytest

from cnntrain.data.images import Folders
from cnntrain.data.sources import idx
from cnntrain.errors import DataError

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (12, 5, 7), dtype=np.uint8)
LABELS = (np.arange(12) % 3).astype(np.uint8)


def packed(magic, array):
    return struct.pack(f">I{array.ndim}I", magic, *array.shape) + array.tobytes()


def write(folder, images=None, labels=None, zipped=True):
    for name, data in (("images", images or packed(0x803, PIXELS)), ("labels", labels or packed(0x801, LABELS))):
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(data) if zipped else data)


def read(folder, **options):
    return idx.idx(Folders(folder, folder / "cache"), "images", "labels", **options)


@pytest.mark.parametrize("zipped", [True, False])
def test_own_files(tmp_path, zipped):
    # Beside a file of the very name, what is packed is not looked at.
    (tmp_path / "images.gz").write_bytes(b"nonsense")
    write(tmp_path, zipped=zipped)
    dataset = read(tmp_path)
    assert np.array_equal(dataset.train.pixels, PIXELS[:, None])
    assert np.array_equal(dataset.train.labels, LABELS)
    assert dataset.classes == ("0", "1", "2")
    assert dataset.test is None


def test_own_test_files(tmp_path):
    write(tmp_path)
    (tmp_path / "test").mkdir()
    write(tmp_path / "test", packed(0x803, PIXELS[:4]), packed(0x801, LABELS[:4]))
    test = read(tmp_path, test_images="test/images", test_labels="test/labels").test
    assert np.array_equal(test.pixels, PIXELS[:4, None])
    assert np.array_equal(test.labels, LABELS[:4])
    for alone in ("test_images", "test_labels"):
        with pytest.raises(DataError, match="takes `test_images` and `test_labels` together, or neither"):
            read(tmp_path, **{alone: "test/images"})


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (packed(0x801, PIXELS), None, "magic number is 0x801, not 0x803"),
        (packed(0x803, PIXELS)[:-1], None, "truncated: it has fewer bytes than the 420"),
        (packed(0x803, PIXELS) + b"x", None, "more bytes"),
        (b"\0\0", None, "ends within its header"),
        (struct.pack(">4I", 0x803, 2**31, 2**15, 2**15), None, "unusual for image data"),
        (struct.pack(">4I", 0x803, 2**20, 28, 28), None, "would unpack to 822,083,584"),
        (struct.pack(">4I", 0x803, 2**10, 28, 28), None, "truncated"),
        (None, packed(0x801, LABELS[:-1]), "12 images.*11 labels"),
        (None, packed(0x801, LABELS + 9), "the label 9 is out of range; there are 3 classes"),
    ],
)
def test_damaged(tmp_path, images, labels, expected):
    write(tmp_path, images, labels)
    with pytest.raises(DataError, match=expected) as caught:
        read(tmp_path, classes=["a", "b", "c"])
    assert str(tmp_path) in str(caught.value)


def test_truncated_gzip(tmp_path):
    write(tmp_path)
    data = (tmp_path / "images.gz").read_bytes()
    (tmp_path / "images.gz").write_bytes(data[:-20])
    with pytest.raises(DataError, match="truncated or damaged gzip"):
        read(tmp_path)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    # Its header claims 420 bytes; 200 MB of zeros follow.
    write(tmp_path, packed(0x803, PIXELS) + bytes(200_000_000))
    with pytest.raises(DataError, match="more bytes"):
        read(tmp_path)


def test_missing(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        read(tmp_path)


def test_genuine_mnist(data_dir):
    dataset = idx.mnist(Folders(data_dir, data_dir / "none"))
    assert dataset.train.pixels.shape == (60000, 1, 28, 28)
    assert dataset.test.pixels.shape == (10000, 1, 28, 28)
    assert np.bincount(dataset.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    header = struct.pack(">4I", 0x803, 60000, 28, 28)
    found = hashlib.md5(header + dataset.train.pixels.tobytes(), usedforsecurity=False).hexdigest()
    assert found == "6bbc9ace898e44ae57da46a324031adb"


def test_what_is_not_mnist_is_not_taken_for_it(tmp_path):
    for index, name in enumerate(idx.FILES):
        array = PIXELS if index % 2 == 0 else LABELS
        (tmp_path / name).write_bytes(packed(0x803 if index % 2 == 0 else 0x801, array))
    with pytest.raises(DataError, match="not the published file; for your own data, use the source `idx`"):
        idx.mnist(Folders(tmp_path, tmp_path))


@pytest.mark.parametrize(("split", "first", "names"), [("letters", 1, "abc"), ("digits", 0, "012")])
def test_emnist_stands_upright(tmp_path, split, first, names):
    for part, count in (("train", 12), ("test", 3)):
        (tmp_path / f"emnist-{split}-{part}-images-idx3-ubyte").write_bytes(packed(0x803, PIXELS[-count:]))
        (tmp_path / f"emnist-{split}-{part}-labels-idx1-ubyte").write_bytes(packed(0x801, LABELS[-count:] + first))
    dataset = idx.emnist(Folders(tmp_path, tmp_path), split)
    assert np.array_equal(dataset.train.pixels[:, 0], PIXELS.swapaxes(1, 2))
    assert np.array_equal(dataset.test.pixels[:, 0], PIXELS[-3:].swapaxes(1, 2))
    assert [dataset.classes[label] for label in dataset.test.labels] == list(names)


def test_emnist_is_unpacked_from_its_archive_once(tmp_path, monkeypatch):
    archive = tmp_path / "emnist" / "gzip.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as packing:
        for part in ("train", "test"):
            for kind, content in (("images-idx3", packed(0x803, PIXELS)), ("labels-idx1", packed(0x801, LABELS))):
                packing.writestr(f"gzip/emnist-mnist-{part}-{kind}-ubyte.gz", gzip.compress(content))
    asked = []
    monkeypatch.setattr(idx, "fetch", lambda folders, *what: asked.append(what) or archive)
    for _ in range(2):
        dataset = idx.emnist(Folders(None, tmp_path), "mnist")
        assert np.array_equal(dataset.test.pixels[:, 0], PIXELS.swapaxes(1, 2))
        assert dataset.classes == tuple("0123456789")
    assert asked == [("emnist", *idx.EMNIST)]


def test_a_label_is_named_as_the_file_has_it(tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(packed(0x803, PIXELS))
        (tmp_path / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(packed(0x801, LABELS + 25))
    with pytest.raises(DataError, match="the label 27 is out of range; there are 26 classes"):
        idx.emnist(Folders(tmp_path, tmp_path), "letters")


def test_emnist_classes_are_the_published_ones():
    counts = {name: len(classes) for name, classes in idx.EMNIST_CLASSES.items()}
    assert counts == {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10}
    assert idx.EMNIST_CLASSES["byclass"] == string.digits + string.ascii_uppercase + string.ascii_lowercase
    for name in ("bymerge", "balanced"):
        assert idx.EMNIST_CLASSES[name] == string.digits + string.ascii_uppercase + "abdefghnqrt"


def test_kuzushiji_classes_are_the_published_ones(tmp_path):
    relatives(tmp_path / "kmnist")
    names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    assert idx.kmnist(Folders(tmp_path, tmp_path)).classes == names


def test_no_images(tmp_path):
    write(tmp_path, struct.pack(">4I", 0x803, 0, 28, 28), struct.pack(">2I", 0x801, 0))
    with pytest.raises(DataError, match="holds no images"):
        idx.idx(Folders(tmp_path, tmp_path), "images", "labels")


def relatives(folder):
    """Files with the names that MNIST and its relatives share."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in idx.FILES:
        array = PIXELS if "images" in name else LABELS
        (folder / name).write_bytes(packed(0x803 if "images" in name else 0x801, array))


def test_digits_are_not_taken_for_clothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise DataError("not at hand")

    monkeypatch.setattr(idx, "fetch", refuse)
    relatives(tmp_path / "data" / "mnist")
    for named in (tmp_path / "data", tmp_path / "data" / "mnist"):
        with pytest.raises(DataError, match="not at hand"):
            idx.fashion_mnist(Folders(named, tmp_path / "cache"))


@pytest.mark.parametrize("place", ["fashion_mnist", "FashionMNIST/raw", "fashion-mnist"])
def test_clothing_is_found_under_its_own_name(tmp_path, place):
    relatives(tmp_path / place)
    assert len(idx.fashion_mnist(Folders(tmp_path, tmp_path / "cache")).train) == 12
    assert len(idx.fashion_mnist(Folders(tmp_path / place.split("/")[0], tmp_path / "cache")).train) == 12


@pytest.mark.parametrize("elsewhere", [True, False])
def test_the_named_folder_goes_before_the_one_here(tmp_path, monkeypatch, elsewhere):
    for name in ("named", "here"):
        (tmp_path / name).mkdir()
    write(tmp_path / "named", zipped=not elsewhere)
    write(tmp_path / "here", images=packed(0x803, PIXELS[::-1]), zipped=elsewhere)
    monkeypatch.chdir(tmp_path / "here")
    assert np.array_equal(read(tmp_path / "named").train.pixels, PIXELS[:, None])
    assert np.array_equal(read(tmp_path / "none").train.pixels, PIXELS[::-1, None])


@pytest.mark.parametrize("path", [".", "/", ".."])
def test_what_is_no_name_of_a_file(tmp_path, path):
    with pytest.raises(DataError, match="not a file"):
        idx.idx(Folders(tmp_path, tmp_path / "cache"), path, path)


def test_the_folder_named_on_the_command_line_goes_before_that_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNTRAIN_DATA_DIR", str(tmp_path / "environment"))
    assert Folders.standard(None).named == tmp_path / "environment"
    assert Folders.standard(tmp_path / "named").named == tmp_path / "named"
    monkeypatch.delenv("CNNTRAIN_DATA_DIR")
    assert Folders.standard(None).named is None
