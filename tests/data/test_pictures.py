"""Image folders and CSV lists: classes by name, and everything that can be wrong with a picture."""

import os
import struct
import tarfile
import warnings
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from cnntrain.data.images import Folders
from cnntrain.data.sources.folders import csv_file, image_folder
from cnntrain.data.sources.pictures import _readers, fitted, open_picture
from cnntrain.errors import DataError

RANDOM = np.random.default_rng(0)


def picture(path, size=(6, 5), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def read(folder, **options):
    return image_folder(Folders(None, folder.with_name("cache")), str(folder), **options)


def test_train_and_test_folders(tmp_path):
    pixels = {}
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            for index in range(2):
                pixels[split, name, index] = picture(tmp_path / split / name / f"{index}.png")
    dataset = read(tmp_path)
    assert dataset.classes == ("cat", "dog")
    for part, split in ((dataset.train, "train"), (dataset.validation, "val"), (dataset.test, "test")):
        assert part.labels.tolist() == [0, 0, 1, 1]
        assert np.array_equal(part.pixels[3], pixels[split, "dog", 1].transpose(2, 0, 1))
        assert part.paths.tolist() == [
            str(tmp_path / split / f"{name}.png") for name in ("cat/0", "cat/1", "dog/0", "dog/1")
        ]


def test_classes_are_matched_by_name_when_a_test_folder_lacks_one(tmp_path):
    for name in ("ant", "bee", "cow"):
        picture(tmp_path / "train" / name / "0.png")
    for name in ("bee", "cow"):
        picture(tmp_path / "test" / name / "0.png")
    assert read(tmp_path).test.labels.tolist() == [1, 2]


def test_a_test_class_that_training_lacks(tmp_path):
    picture(tmp_path / "train" / "ant" / "0.png")
    picture(tmp_path / "test" / "wasp" / "0.png")
    with pytest.raises(DataError, match=r"0\.png: this test image is of the class wasp, which no training image has"):
        read(tmp_path)


def test_a_class_that_can_not_be_shown(tmp_path):
    picture(tmp_path / "pets" / "a\x1b[2J" / "1.png")
    with pytest.raises(DataError, match=r"pets: the class 'a\\x1b\[2J' has characters in its name that can't be shown"):
        read(tmp_path / "pets")


def test_one_folder_formats_and_hidden_files(tmp_path):
    for suffix in ("png", "jpg", "bmp", "tif", "PGM"):
        picture(tmp_path / "a" / f"x.{suffix}", mode="L")
    (tmp_path / "a" / ".hidden.png").write_text("")
    (tmp_path / "a" / "notes.txt").write_text("")
    (tmp_path / ".cache").mkdir()
    dataset = read(tmp_path)
    assert dataset.train.pixels.shape == (5, 1, 5, 6)
    assert dataset.test is None


def test_channels_and_size(tmp_path):
    picture(tmp_path / "a" / "1.png", mode="L")
    picture(tmp_path / "a" / "2.png", size=(9, 9))
    assert read(tmp_path, size=4).train.pixels.shape == (2, 3, 4, 4)
    assert read(tmp_path, size=4, channels=1).train.pixels.shape == (2, 1, 4, 4)


def test_mixed_sizes(tmp_path):
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "a" / "2.png", size=(9, 9))
    with pytest.raises(DataError, match=r"\(height x width\): .*1\.png is 5x6.*2\.png is 9x9.*`size:`"):
        read(tmp_path)


def test_empty_class_missing_folder_no_classes(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "none")
    with pytest.raises(DataError, match="no folders with images"):
        read(tmp_path)
    picture(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="b: the class has no images"):
        read(tmp_path)


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: b"no image" + d])
def test_corrupt_images(tmp_path, damage):
    picture(tmp_path / "a" / "good.png")
    picture(tmp_path / "a" / "bad.png")
    path = tmp_path / "a" / "bad.png"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"bad\.png: can't be read as an image"):
        read(tmp_path)


def test_all_that_can_not_be_read_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("cnntrain.data.sources.decode.PIECE_FILES", 2)
    for number in range(7):
        picture(tmp_path / "a" / f"{number}.png")
    bad = [tmp_path / "a" / f"{number}.png" for number in (0, 3, 4)]
    for path in bad:
        path.write_bytes(b"no image")
    with pytest.raises(DataError) as raised:
        read(tmp_path)
    first, *lines = str(raised.value).splitlines()
    assert first == "3 of 7 images can't be used; fix or remove them:"
    assert [line.partition(": can't be read as an image")[0] for line in lines] == list(map(str, bad))
    monkeypatch.setattr("cnntrain.data.sources.decode.MOST_NAMED", 2)
    with pytest.raises(DataError) as raised:
        read(tmp_path)
    assert str(raised.value).splitlines() == [first, *lines[:2], "..."]
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="7 of 7 images can't be used"):
        read(tmp_path)
    with pytest.raises(DataError, match="7 of 7 images can't be used"):
        read(tmp_path, size=4)


def test_what_is_passed_over_is_told(tmp_path, capsys):
    for name in ("train/a/1.png", "train/b/2.png", "test/a/3.png"):
        picture(tmp_path / "photos" / name)
    assert read(tmp_path / "photos").classes == ("a", "b")
    assert capsys.readouterr().err == ""
    for name in ("train/a/1.heic", "train/b/2.HEIC", "test/a/unnamed", "test/a/.hidden"):
        (tmp_path / "photos" / name).write_text("")
    (tmp_path / "photos" / "train" / "a" / "more").symlink_to(tmp_path)
    (tmp_path / "photos" / "train" / "a" / "gone.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "photos" / "train" / "a" / "list.txt").symlink_to(tmp_path / "photos" / "train" / "a" / "1.heic")
    picture(tmp_path / "photos" / "test" / "4.png")
    # What is decoded already is not spoken of again.
    read(tmp_path / "photos")
    assert capsys.readouterr().err == ""
    picture(tmp_path / "photos" / "test" / "a" / "5.png")
    read(tmp_path / "photos")
    kinds = (
        ".heic: 2, images beside the folders of classes: 1, broken links: 1, links to folders: 1, no suffix: 1, .txt: 1"
    )
    told = capsys.readouterr().err.partition(": not read (")
    assert told[0] == str(tmp_path / "photos")
    assert sorted(told[2].removesuffix(")\n").split(", ")) == sorted(kinds.split(", "))
    (tmp_path / "photos" / "train" / "b" / "2.png").unlink()
    with pytest.raises(DataError, match=r"b: the class has no images that can be read \(.heic: 1\); add"):
        read(tmp_path / "photos")


def test_a_decompression_bomb(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(DataError, match="refused"):
        open_picture(tmp_path / "bomb.png")


def test_a_link_out_of_the_folder(tmp_path):
    picture(tmp_path / "secret.png")
    picture(tmp_path / "data" / "a" / "1.png")
    (tmp_path / "data" / "a" / "2.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="leads out of"):
        read(tmp_path / "data")


def test_transparency_sixteen_bits_and_orientation(tmp_path):
    Image.new("RGBA", (2, 2), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert np.asarray(open_picture(tmp_path / "clear.png")).max() == 0
    Image.fromarray(np.full((2, 2), 65535, np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(open_picture(tmp_path / "deep.png")).tolist() == [[255, 255], [255, 255]]
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "turned.jpg", size=(8, 4), exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (4, 8)


def test_csv(tmp_path):
    pixels = picture(tmp_path / "images" / "1.png", mode="L")
    picture(tmp_path / "images" / "2.png", mode="L")
    (tmp_path / "train.csv").write_text("path,label\nimages/1.png,yes\nimages/2.png,no\n")
    # A table program may begin its files with a byte order mark.
    (tmp_path / "test.csv").write_text("\ufeffpath,label\nimages/1.png,yes\n", encoding="utf-8")
    dataset = csv_file(Folders(tmp_path, tmp_path.with_name("cache")), "train.csv", "test.csv")
    assert dataset.classes == ("no", "yes")
    assert dataset.train.labels.tolist() == [1, 0]
    assert np.array_equal(dataset.test.pixels[:][0, 0], pixels)
    assert dataset.train.paths[::-1].tolist() == [str(tmp_path / "images" / f"{number}.png") for number in (2, 1)]


def test_csv_lists_of_all_splits(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number}.png")
    for number, split in enumerate(("train", "test", "validation")):
        (tmp_path / f"{split}.csv").write_text(f"id,path,label\n7,{number}.png,yes\n")
    dataset = csv_file(Folders(tmp_path, tmp_path / "cache"), "train.csv", "test.csv", validation="validation.csv")
    parts = (dataset.train, dataset.test, dataset.validation)
    assert [part.paths.tolist() for part in parts] == [[str(tmp_path / f"{number}.png")] for number in range(3)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,class\na,b\n", "first line must name the columns `path` and `label`, not 'file,class'"),
        ("path;label\na;b\n", "not 'path;label'"),
        ("path,label\n", "lists no images"),
        ("path,label\nnone.png,x\n", "train.csv:2: there is no file"),
        ("path,label\ntrain.csv,\n", "train.csv:2: no label"),
        ("path,label\ntrain.csv, \n", "train.csv:2: no label"),
        ("path,label\n\n\ntrain.csv,\n", "train.csv:4: no label"),
        ("path,label\ntrain.csv,a\ntrain.csv,b\0\n", r"train.csv:3: the class 'b\\x00' has characters in its name"),
    ],
)
def test_bad_csv(tmp_path, text, expected):
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(DataError, match=expected):
        csv_file(Folders(None, tmp_path.with_name("cache")), str(tmp_path / "train.csv"))


def test_cifar10_as_jpeg(data_dir, tmp_path):
    if not (data_dir / "cifar10-jpeg.tar.xz").is_file():
        pytest.skip("CNNTRAIN_DATA_DIR has no cifar10-jpeg.tar.xz")
    with tarfile.open(data_dir / "cifar10-jpeg.tar.xz") as archive:
        for count, member in enumerate(archive):
            archive.extract(member, tmp_path, filter="data")
            if count == 2500:
                break
    dataset = image_folder(Folders(tmp_path, tmp_path.with_name("cache")), "test")
    assert {"airplane", "automobile"} <= set(dataset.classes)
    assert dataset.train.pixels.shape[1:] == (3, 32, 32)
    assert dataset.train.pixels[:].std() > 30


def test_a_test_folder_without_a_train_folder_is_no_class(tmp_path):
    picture(tmp_path / "test" / "cat" / "0.png")
    with pytest.raises(DataError, match="has `test`, but no `train` folder"):
        read(tmp_path)


def test_a_grey_palette_is_grey_and_a_coloured_one_is_not(tmp_path):
    Image.new("L", (2, 2), 99).save(tmp_path / "grey.gif")
    for colour in ((200, 0, 0), (200, 200, 0), (0, 200, 200)):
        Image.new("RGB", (2, 2), colour).save(tmp_path / "coloured.gif")
        assert open_picture(tmp_path / "coloured.gif").getpixel((1, 1)) == colour
    assert open_picture(tmp_path / "grey.gif").mode == "L"


@pytest.mark.parametrize(("mode", "value", "expected"), [("1", 1, 255), ("L", 7, 7), ("LA", (200, 51), 40)])
def test_whatever_has_no_colours_is_grey(tmp_path, mode, value, expected):
    Image.new(mode, (2, 2), value).save(tmp_path / "grey.png")
    with Image.open(tmp_path / "grey.png") as found:
        assert found.mode == mode
    assert open_picture(tmp_path / "grey.png").mode == "L"
    assert np.asarray(open_picture(tmp_path / "grey.png")).tolist() == [[expected] * 2] * 2


def test_what_is_made_smaller_is_a_mean():
    columns = Image.fromarray(np.array([[0, 200]] * 4, np.uint8))
    assert np.asarray(fitted(columns, (2, 1), None)).tolist() == [[100], [100]]


def test_what_becomes_of_another_aspect_ratio():
    wide = Image.fromarray(np.repeat(np.array([[60, 120, 240]] * 4, np.uint8), 4, axis=1))
    stretched, cropped, padded = (np.asarray(fitted(wide, (4, 4), None, fit)) for fit in ("stretch", "crop", "pad"))
    assert np.array_equal(stretched, np.asarray(wide.resize((4, 4), Image.Resampling.BILINEAR)))
    assert (stretched == stretched[0]).all() and stretched[0, 0] < 120 < stretched[0, 3]
    assert (cropped == 120).all()
    assert padded.any(axis=1).tolist() == [False, False, True, False] and padded[2].tolist() == stretched[0].tolist()


def test_a_line_of_pixels_is_padded():
    for shape, places in (((1, 1000), (32, slice(None))), ((1000, 1), (slice(None), 32))):
        padded = np.asarray(fitted(Image.fromarray(np.full(shape, 200, np.uint8)), (64, 64), None, "pad"))
        assert (padded[places] == 200).all() and padded.astype(int).sum() == 64 * 200


def test_borders_are_of_the_ground():
    wide = Image.new("RGB", (8, 4), (10, 20, 30))
    padded = np.asarray(fitted(wide, (8, 8), 3, "pad", "white"))
    assert (padded[[0, 1, 6, 7]] == 255).all() and (padded[2:6] == [10, 20, 30]).all()


def test_postscript_is_not_handed_to_another_program(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'called'}\n")
    (tmp_path / "gs").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    Image.new("L", (4, 4)).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.png")
    with pytest.raises(DataError, match="can't be read as an image"):
        open_picture(tmp_path / "x.png")
    assert not (tmp_path / "called").exists()


def test_reading_in_threads_leaves_the_filters_of_warnings_alone(tmp_path):
    for index in range(50):
        picture(tmp_path / "a" / f"{index}.png")
    before = list(warnings.filters)
    read(tmp_path)
    assert warnings.filters == before


def photo(width, height):
    """Smooth shapes with sharp edges, as a camera gives them."""
    rows, columns = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(rows / (20 + 9 * k)) * np.cos(columns / (30 - 7 * k)) for k in range(3)]
    pixels = np.stack(waves, 2)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = [250, 20, 60]
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(48, 64), (200, 50)])
def test_a_photo_is_decoded_at_less_than_its_size(tmp_path, size, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    photo(1000, 750).save(tmp_path / "x.jpg", quality=95, exif=exif)
    whole, quick = open_picture(tmp_path / "x.jpg"), open_picture(tmp_path / "x.jpg", size=size)
    assert whole.size == ((1000, 750) if orientation == 1 else (750, 1000))
    assert min(quick.size) >= 3 * max(size) and (quick.width < whole.width) is (max(size) < 100)
    expected, found = (np.asarray(fitted(one, size, 3)).astype(int) for one in (whole, quick))
    assert abs(expected - found).mean() < 0.5 and abs(expected - found).max() <= 6


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_format_is_recognized_as_pillow_does(tmp_path):
    recognized = set()
    for name in sorted({*Image.SAVE} & {*_readers()}):
        file = tmp_path / name
        try:
            Image.linear_gradient("L").resize((32, 32)).save(file, format=name)
            with Image.open(file) as by_pillow:
                expected = by_pillow.format
        except (OSError, ValueError, KeyError):  # of no grey images, or with a library that is not there
            continue
        with Image.open(file, formats=_readers()) as found:
            assert found.format == expected
        recognized.add(expected)
    assert recognized > {"BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF"}


def test_what_is_odd_beside_the_pixels_is_not_spoken_of(tmp_path, recwarn):
    picture(tmp_path / "odd.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")
    open_picture(tmp_path / "odd.jpg")
    assert not recwarn.list


def test_height_and_width(tmp_path):
    picture(tmp_path / "a" / "1.png", size=(9, 9))
    assert read(tmp_path, size=[4, 6]).train.pixels.shape == (1, 3, 4, 6)


@pytest.mark.parametrize(("order", "mode"), [("<", "I;16"), (">", "I;16B")])
def test_sixteen_bits_in_either_order_of_bytes(tmp_path, order, mode):
    levels = np.array([[128, 25700], [65200, 65535]], f"{order}u2")
    Image.frombytes(mode, (2, 2), levels.tobytes()).save(tmp_path / "deep.tif")
    with Image.open(tmp_path / "deep.tif") as found:
        assert found.mode == mode
    assert np.asarray(open_picture(tmp_path / "deep.tif")).tolist() == [[0, 100], [254, 255]]


@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA", "CMYK", "P"])
@pytest.mark.parametrize("orientation", [3, 6, 7])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_file_that_lies_on_its_side(tmp_path, mode, orientation, compression):
    greys = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    if mode == "I;16":
        picture = Image.fromarray(greys.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(greys).convert("RGB" if mode == "CMYK" else mode).convert(mode)
    exif = Image.Exif()
    exif[274] = orientation
    picture.save(tmp_path / "x.tif", exif=exif, compression=compression)
    turned = {3: greys[::-1, ::-1], 6: greys[::-1].T, 7: greys[::-1, ::-1].T}[orientation]
    assert np.abs(np.asarray(open_picture(tmp_path / "x.tif").convert("L")) - turned.astype(int)).max() <= 1


def tiff_of(data, size, bits, photometric):
    """An uncompressed grey TIFF file."""
    width, height = size
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags.append((279, len(data)))
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    padding = bytes(len(data) % 2)
    directory = 8 + len(data) + len(padding)
    return b"II*\0" + struct.pack("<I", directory) + data + padding + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("values", "bits", "photometric", "expected"),
    [
        ([0, 10000, 30000, 65535], 16, 1, [0, 39, 117, 255]),
        ([0, 10000, 30000, 65535], 16, 0, [255, 216, 138, 0]),
        ([0, 2000, 3000, 4095], 12, 1, [0, 125, 187, 255]),
        ([0, 100, 200, 255], 8, 0, [255, 155, 55, 0]),
    ],
)
def test_black_and_white_of_tiff_files(tmp_path, values, bits, photometric, expected):
    if bits == 12:
        pairs = zip(values[::2], values[1::2], strict=True)
        data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    else:
        data = np.array(values, f"<u{bits // 8}").tobytes()
    (tmp_path / "x.tif").write_bytes(tiff_of(data, (4, 1), bits, photometric))
    assert np.asarray(open_picture(tmp_path / "x.tif")).tolist() == [expected]


def test_fits_of_sixteen_bits_have_a_sign(tmp_path):
    cards = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 2", "NAXIS2  = 1", "BZERO   = 32768", "END"]
    header = "".join(card.ljust(80) for card in cards).ljust(2880)
    (tmp_path / "x.fits").write_bytes(header.encode() + b"\x80\0\0\0".ljust(2880, b"\0"))
    with pytest.raises(DataError, match="signed or 32-bit pixels, whose range of brightness is unknown"):
        open_picture(tmp_path / "x.fits")


def test_how_opaque_a_pixel_is_may_be_a_channel_of_its_own(tmp_path):
    colours = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) * 10
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(colours).save(tmp_path / name / "1.png")
        Image.new("L", (3, 2), 70).save(tmp_path / name / "2.png")
    found = read(tmp_path, channels=4).train.pixels[:]
    assert found.shape == (4, 4, 2, 3)
    assert (found[0].transpose(1, 2, 0) == colours).all()
    assert (found[1] == np.array([70, 70, 70, 255])[:, None, None]).all()


def test_pixels_of_unknown_range_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "real.tif")
    with pytest.raises(DataError, match="floating-point pixels"):
        open_picture(tmp_path / "real.tif")


def test_thirty_two_bit_pixels_are_refused_and_a_deep_pnm_is_not(tmp_path):
    Image.fromarray(np.full((2, 2), 200, np.int32)).save(tmp_path / "wide.tif")
    with pytest.raises(DataError, match="signed or 32-bit pixels"):
        open_picture(tmp_path / "wide.tif")
    (tmp_path / "deep.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">2H", 25700, 65535))
    assert np.asarray(open_picture(tmp_path / "deep.pgm")).tolist() == [[100, 255]]


def test_greys_with_a_transparent_level_stay_grey(tmp_path):
    Image.fromarray(np.array([[7, 99]], np.uint8)).save(tmp_path / "grey.png", transparency=7)
    found = open_picture(tmp_path / "grey.png")
    assert found.mode == "L"
    assert np.asarray(found).tolist() == [[0, 99]]
    Image.new("L", (2, 2), 99).save(tmp_path / "grey.gif", transparency=0)
    assert open_picture(tmp_path / "grey.gif").mode == "L"


@pytest.mark.parametrize("names", [("Train", "Valid", "TEST"), ("TRAIN", "Validation", "test")])
def test_splits_are_known_in_either_case(tmp_path, names):
    for name in names:
        picture(tmp_path / name / "cat" / "0.png")
    dataset = read(tmp_path)
    assert dataset.classes == ("cat",)
    assert dataset.validation is not None
    assert dataset.test is not None


def test_two_folders_of_one_split(tmp_path):
    for name in ("train", "val", "valid"):
        picture(tmp_path / name / "cat" / "0.png")
    with pytest.raises(DataError, match="`val` and `valid` are both names for the validation images; keep one"):
        read(tmp_path)


def test_hidden_folders_within_a_class_are_not_read(tmp_path):
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "a" / ".thumbnails" / "1.png")
    picture(tmp_path / "a" / "more" / "2.png")
    assert len(read(tmp_path).train) == 2


def test_what_is_called_as_an_image_but_is_no_file_is_not_read(tmp_path):
    picture(tmp_path / "a" / "1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    (tmp_path / "a" / "3.png").symlink_to(tmp_path / "a", target_is_directory=True)
    assert len(read(tmp_path).train) == 1


def test_a_folder_and_a_pipe_are_no_pictures(tmp_path):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("folder.png", "pipe.png"):
        with pytest.raises(DataError, match=rf"{name}: can't be read as an image \(not a file\)"):
            open_picture(tmp_path / name)


def test_a_label_is_what_stands_between_spaces(tmp_path):
    for name in ("1", "2"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / "train.csv").write_text("path,label\n1.png,x\n2.png, x\n")
    dataset = csv_file(Folders(None, tmp_path.with_name("cache")), str(tmp_path / "train.csv"))
    assert dataset.classes == ("x",)


def test_classes_that_are_called_as_a_split_may_be(tmp_path):
    for name in ("valid", "invalid", "Test", "Train"):
        picture(tmp_path / name / "0.png")
    assert read(tmp_path).classes == ("Test", "Train", "invalid", "valid")
