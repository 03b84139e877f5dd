"""Image files to pixels, by Pillow: one reading for training, evaluation and prediction."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cnntrain.errors import DataError
from cnntrain.text import printable
from cnntrain.unheard import filtering

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow logs what is wrong with a file, and raises an error that says so too.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# Grey, RGB, or RGB and how opaque a pixel is.
Channels = Literal[1, 3, 4]
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Of an image whose sides are in another ratio than those asked for: distorted, its middle, or all of it with borders.
Fit = Literal["stretch", "crop", "pad"]
GREY = ("1", "L", "LA")
# What Pillow opens as 32-bit integers though it has 16 bits, and as unsigned ones though they have a sign.
SIXTEEN_BITS, SIGNED = ("PNG", "PPM"), ("FITS",)
# In TIFF files: how many bits a value has, and whether 0 is white.
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
# What most files are: some of the other formats look far into every file.
COMMON = ("BMP", "GIF", "JPEG", "PNG")
# Pillow hands these to programs outside: PostScript to Ghostscript, WMF to Windows; an IPTC file may hold either.
REFUSED = ("EPS", "IPTC", "WMF")
# A JPEG file is decoded at a half, a quarter or an eighth of its size if that is still so many times what is asked for.
AMPLE = 3
# In pixels; larger images are refused.
LARGEST = 2**26


@cache
def _formats() -> dict[str, str]:
    """Pillow's format for each suffix of a file that it reads."""
    from PIL import Image

    Image.init()
    return {suffix: name for suffix, name in Image.EXTENSION.items() if name in Image.OPEN and name not in REFUSED}


@cache
def _readers() -> list[str]:
    """Pillow's formats in the order in which they are asked whether a file is theirs."""
    return sorted(set(_formats().values()), key=lambda name: (name not in COMMON, name))


def pictures_in(folder: Path, passed_over: Counter[str] | None = None) -> Iterator[Path]:
    """The visible image files at any depth, in the order of their names; links to folders are not followed.

    What else is visible there is counted under `passed_over`, by kind.
    """
    # The entries of a folder know what they are, where a path would have to ask the system; names are sorted sooner.
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in visible:
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from pictures_in(path, passed_over)
        elif is_picture(entry):
            yield path
        elif passed_over is not None:
            passed_over[_kind(path)] += 1


def is_picture(there: "Path | os.DirEntry[str]") -> bool:
    """Whether it is a file that is called as an image file is."""
    return os.path.splitext(there.name)[1].lower() in _formats() and there.is_file()


def _kind(path: Path) -> str:
    """What something is that is no image file."""
    if path.is_symlink() and not path.is_file():
        return "links to folders" if path.is_dir() else "broken links"
    return path.suffix.lower() or "no suffix"


def kinds_of(passed_over: Counter[str]) -> str:
    """`.heic: 30, no suffix: 1`, the most frequent first."""
    return ", ".join(f"{printable(kind)}: {count:,}" for kind, count in passed_over.most_common())


def open_picture(
    path: Path, ground: str = "black", size: tuple[int, int] | None = None, channels: int | None = None
) -> "Image":
    """A whole decoded image, upright, on a `ground` where it is transparent, unless four `channels` are asked for.

    With the `size` (height, width) that it will have in the end, a photo takes less time, and may be smaller. It is the
    first of several pages or frames.
    Raises `DataError` for a file that can't be read, or is too large to be decoded safely.
    """
    from PIL import Image

    # What is odd beside the pixels is not spoken of.
    with filtering(("ignore", UserWarning), ("error", Image.DecompressionBombWarning)):
        return _open(path, ground, size, channels)


def _open(path: Path, ground: str, size: tuple[int, int] | None, channels: int | None) -> "Image":
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        if path.exists() and not path.is_file():
            # A pipe would be waited for.
            raise OSError("not a file")
        # As a path, Pillow would map a TIFF file into memory, and cut its rows wrongly where it lies on its side.
        with path.open("rb") as file, Image.open(file, formats=_readers()) as picture:
            if picture.width * picture.height > LARGEST:
                raise Image.DecompressionBombError
            if size is not None:
                # Of both sides, for it may yet be turned.
                picture.draft(None, (AMPLE * max(size), AMPLE * max(size)))
            ends = _ends_of(picture)
            upright = ImageOps.exif_transpose(picture)
            if ends is not None:
                upright = _in_eight_bits(upright, *ends)
            return upright.convert("RGBA") if channels == 4 else _flattened(upright, ground)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: refused, because it would unpack to more than {LARGEST:,} pixels") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: can't be read as an image (damaged, or of a kind that Pillow can't read)") from error
    except Exception as error:
        # Decoders fail in many ways over a damaged file, and each of them means the same to the user.
        raise DataError(f"{path}: can't be read as an image ({error or type(error).__name__})") from error


def fitted(
    picture: "Image", size: tuple[int, int] | None, channels: int | None, fit: Fit = "stretch", ground: str = "black"
) -> "Image":
    """In `channels` (1: grey by ITU-R 601, 3: RGB, 4: RGBA), then resized to `size` (height, width), antialiased.

    `fit` says what becomes of another aspect ratio; what is padded lies in the middle of a `ground`.
    """
    from PIL import Image, ImageOps

    if channels is not None:
        picture = picture.convert(MODES[channels])
    if size is not None and picture.size != size[::-1]:
        check_size(size)
        bilinear = Image.Resampling.BILINEAR
        if fit == "crop":
            picture = ImageOps.fit(picture, size[::-1], bilinear)
        elif fit == "pad":
            picture = _padded(picture, size, ground)
        else:
            picture = picture.resize(size[::-1], bilinear)
    return picture


def _padded(picture: "Image", size: tuple[int, int], ground: str) -> "Image":
    """What `ImageOps.pad` gives, also for a line of pixels, of which some versions of Pillow leave nothing."""
    from PIL import Image

    height, width = size
    if picture.width * height > picture.height * width:
        inner = (width, max(1, round(picture.height / picture.width * width)))
    else:
        inner = (max(1, round(picture.width / picture.height * height)), height)
    whole = Image.new(picture.mode, (width, height), ground)
    place = (round((width - inner[0]) * 0.5), round((height - inner[1]) * 0.5))
    whole.paste(picture.resize(inner, Image.Resampling.BILINEAR), place)
    return whole


def check_size(size: tuple[int, int]) -> None:
    """Raise `DataError` for a (height, width) that no picture is enlarged to."""
    if size[0] * size[1] > LARGEST:
        raise DataError(f"images of {size[0]}x{size[1]} are refused; the limit is {LARGEST:,} pixels")


def _ends_of(picture: "Image") -> tuple[int, int] | None:
    """The values of black and white where they have more than 8 bits; raises `ValueError` where nobody can know."""
    if picture.mode[0] not in "IF":
        return None
    is_sixteen = picture.mode.startswith("I;16") or picture.format in SIXTEEN_BITS
    if not is_sixteen or picture.format in SIGNED:
        kind = "floating-point" if picture.mode == "F" else "signed or 32-bit"
        raise ValueError(f"{kind} pixels, whose range of brightness is unknown; save them as unsigned 8 or 16 bits")
    tags = getattr(picture, "tag_v2", {})
    (bits, *_) = tags.get(BITS, (16,))
    return (2**bits - 1, 0) if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else (0, 2**bits - 1)


def _in_eight_bits(picture: "Image", black: int, white: int) -> "Image":
    """Greys with more bits, scaled."""
    import numpy as np
    from PIL import Image

    levels = np.round((np.asarray(picture, np.float32) - black) / ((white - black) / 255))
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def _flattened(picture: "Image", ground: str) -> "Image":
    """A plain greyscale or RGB image; what is transparent lies on `ground`."""
    from PIL import Image

    mode = picture.mode
    if "A" in picture.getbands() or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, ground), layer)
    if mode in GREY:
        return picture.convert("L")
    colours = picture.convert("RGB")
    # A palette, as every GIF has one, may well be all greys.
    red, green, blue = colours.split() if mode == "P" else (None, None, 0)
    return red if red is not None and red == green == blue else colours
