"""Files that unpack to far more than they are, links that lead out, and archives that name other places."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from cnntrain.data.images import Folders
from cnntrain.data.sources import arrays, cifar, folders, idx, pickles
from cnntrain.data.sources.unpacked import check_bytes
from cnntrain.errors import CheckpointError, DataError
from cnntrain.run import checkpoint

from .test_hostile_yaml import measured


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path, width, height):
    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(100_000_000), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


@pytest.fixture
def pets(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(3):
            Image.new("L", (8, 8), index).save(tmp_path / "pets" / name / f"{index}.png")
    return tmp_path / "pets"


def zeros(path, head, megabytes):
    with gzip.open(path, "wb", 9) as file:
        file.write(head)
        for _ in range(megabytes):
            file.write(bytes(2**20))


def test_a_gzip_bomb_as_idx_and_as_a_pickle(tmp_path, cnntrain):
    zeros(tmp_path / "images.gz", struct.pack(">4I", 0x803, 700, 1000, 1000), 700)
    zeros(tmp_path / "longer.gz", struct.pack(">4I", 0x803, 7, 10, 10), 700)
    zeros(tmp_path / "mnist.pkl.gz", b"", 700)
    (tmp_path / "c.yaml").write_text("network: [softmax]\n")
    # A build of torch with CUDA takes twice as much as one without.
    _, usual, _ = measured("show", str(tmp_path / "c.yaml"), "data.source=digits")
    for source, expected in (
        ("{idx: {train_images: images, train_labels: images}}", "would unpack to"),
        ("{idx: {train_images: longer, train_labels: longer}}", "more bytes than the 700 that its header claims"),
        ("{nielsen_pickle: mnist.pkl.gz}", "would unpack to"),
    ):
        options = ("--data-dir", str(tmp_path))
        done, peak, _ = measured("show", str(tmp_path / "c.yaml"), f"data.source={source}", *options)
        assert done.returncode == 1
        assert expected in done.stderr
        assert peak < usual + 200 * 2**20


@pytest.mark.parametrize(("packed", "most"), [(10, 64 * 2**20), (2**20, 300 * 2**20)])
def test_what_an_honest_file_unpacks_to(tmp_path, packed, most):
    (tmp_path / "x.gz").write_bytes(bytes(packed))
    check_bytes(tmp_path / "x.gz", most)
    with pytest.raises(DataError, match=rf"its {packed:,} bytes would unpack to {most + 1:,}"):
        check_bytes(tmp_path / "x.gz", most + 1)


def test_a_zip_bomb_as_npz(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((100_000, 32, 32), np.uint8), labels=np.zeros(100_000, int))
    with pytest.raises(DataError, match=r"x\.npz: refused, because its .* would unpack to"):
        arrays.npz(Folders(None, tmp_path), str(tmp_path / "x.npz"))


def test_a_label_without_end_makes_no_names(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, 2**62]))
    with pytest.raises(DataError, match="out of range"):
        arrays.npz(Folders(None, tmp_path), str(tmp_path / "x.npz"))


@pytest.mark.parametrize("side", [100_000, 9_000])
def test_a_png_bomb(pets, side):
    png(pets / "cat" / "9.png", side, side)
    with pytest.raises(DataError, match=r"9\.png: refused, because it would unpack to more than"):
        folders.image_folder(Folders(None, pets.parent), str(pets), size=8)


def test_a_png_bomb_within_an_icon(pets):
    png(pets / "cat" / "9.ico", 10_000, 10_000)
    data = (pets / "cat" / "9.ico").read_bytes()
    # It says of itself that it has 256 x 256 pixels.
    head = struct.pack("<3H4B2H2I", 0, 1, 1, 0, 0, 0, 0, 1, 24, len(data), 22)
    (pets / "cat" / "9.ico").write_bytes(head + data)
    with pytest.raises(DataError, match=r"9\.ico: refused, because it would unpack to more than"):
        folders.image_folder(Folders(None, pets.parent), str(pets), size=8)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_bomb_beside_the_pixels(pets, kind):
    plain = (pets / "cat" / "0.png").read_bytes()
    packed = zlib.compress(bytes(200_000_000), 9)
    (pets / "cat" / "9.png").write_bytes(plain[:33] + chunk(kind, b"k\0\0" + packed) + plain[33:])
    with pytest.raises(DataError, match=r"9\.png"):
        folders.image_folder(Folders(None, pets.parent), str(pets))


def test_a_size_without_end(pets):
    with pytest.raises(DataError, match="the limit is"):
        folders.image_folder(Folders(None, pets.parent), str(pets), size=1_000_000)


def test_a_packed_checkpoint_under_a_true_seal(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("x/data.pkl", bytes(50_000_000))
    (tmp_path / "x.pt").write_bytes(checkpoint._sealed(file.getvalue()))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(tmp_path / "x.pt")


def test_no_checkpoint_is_read_without_its_seal(tmp_path):
    with (tmp_path / "x.pt").open("wb") as file:
        file.truncate(2**40)
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.pt").mkdir()
    for path in (tmp_path / "x.pt", tmp_path / "pipe.pt", tmp_path / "folder.pt", tmp_path.joinpath("/dev/zero")):
        with pytest.raises(CheckpointError, match="no checkpoint here|does not end with a checksum"):
            checkpoint.load(path)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_out_of_a_folder(pets, what):
    secret = pets.parent / "secret"
    secret.mkdir()
    Image.new("L", (8, 8)).save(secret / "s.png")
    if what == "file":
        (pets / "cat" / "s.png").symlink_to(secret / "s.png")
    else:
        (pets / "bird").symlink_to(secret)
    link = "cat/s.png" if what == "file" else "bird"
    with pytest.raises(DataError, match=f"{link}: refused, because it is a link that leads out"):
        folders.image_folder(Folders(None, pets.parent), str(pets))


def test_links_in_a_circle_end(pets):
    (pets / "cat" / "up").symlink_to("..")
    assert len(folders.image_folder(Folders(None, pets.parent / "cache"), str(pets)).train) == 6


@pytest.mark.parametrize("source", ["csv", "npz", "nielsen_pickle", "idx"])
@pytest.mark.parametrize("what", ["pipe", "device"])
def test_what_is_no_file_is_not_waited_for(tmp_path, source, what):
    os.mkfifo(tmp_path / "pipe")
    path = str(tmp_path / "pipe") if what == "pipe" else "/dev/zero"
    given = Folders(None, tmp_path)
    read = {
        "csv": lambda: folders.csv_file(given, path),
        "npz": lambda: arrays.npz(given, path),
        "nielsen_pickle": lambda: pickles.nielsen_pickle(given, path),
        "idx": lambda: idx.idx(given, path, path),
    }
    with pytest.raises(DataError, match="not a file"):
        read[source]()


def test_an_archive_writes_under_our_names_only(tmp_path):
    (tmp_path / "cache").mkdir()
    archive = tmp_path / "cache" / "x.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for name in ("../../test_batch.bin", "/tmp/cnntrain-slip.bin"):
            member = tarfile.TarInfo(name)
            member.size = 4
            packed.addfile(member, io.BytesIO(b"data"))
        link = tarfile.TarInfo("data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
    assert cifar._unpack(archive, ["test_batch.bin"]) == tmp_path / "cache"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cache", "test_batch.bin", "x.tar.gz"]
    with pytest.raises(DataError, match="does not hold"):
        cifar._unpack(archive, ["data_batch_1.bin"])
