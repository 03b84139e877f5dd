"""Images side by side in one PNG, with captions where they have any."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from cnntrain.reports.fonts import font_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE, LARGEST = 72, 256
# What speaks for one side and for the other, told apart by those who see red and green alike, too.
ORANGE, BLUE = (0.9, 0.38, 0.0), (0.0, 0.4, 0.8)
# Under these an image keeps so much of its contrast, and of itself where they are strongest.
PALE, OPACITY = 0.2, 0.75
GAP = 6
FONT, LINE = 12, 15


def grid(images: NDArray[Any], columns: int, captions: Sequence[str] = ()) -> bytes:
    """A PNG of `images` (count, channels, height, width) in 0..1, enlarged, row by row; captions go below each."""
    texts = [caption.split("\n") for caption in captions]
    below = LINE * max(map(len, texts), default=0)
    pictures, columns = [_enlarged(image) for image in images], min(columns, len(images))
    wide = GAP + max(pictures[0].width, *(_width(line) for lines in texts for line in lines), 0)
    tall = pictures[0].height + GAP + below
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * wide + GAP, rows * tall + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for index, picture in enumerate(pictures):
        left, top = GAP + index % columns * wide, GAP + index // columns * tall
        sheet.paste(picture, (left, top))
        for number, line in enumerate(texts[index] if texts else ()):
            draw.text((left, top + picture.height + 1 + number * LINE), line, "black", font_for(line, FONT))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def diverging(values: NDArray[Any]) -> NDArray[Any]:
    """Values in -1..1, (count, height, width), as colours: white at 0, orange above, blue below."""
    return _tinted(np.ones_like(values[:, None]), values)


def explained(images: NDArray[Any], maps: NDArray[Any], columns: int, captions: Sequence[str]) -> bytes:
    """A grid of `images`, each beside a grey copy with a map (height, width) over it: orange above 0, blue below."""
    step = _shrinking(*images.shape[2:])
    shown = np.stack([_colours(image)[:, ::step, ::step] for image in images])
    maps = np.nan_to_num(maps[:, ::step, ::step])
    strength = maps / np.abs(maps).max((1, 2), keepdims=True).clip(min=1e-12)
    grey = PALE + (1 - 2 * PALE) * shown.mean(1, keepdims=True)
    pairs = np.stack([shown, _tinted(grey, OPACITY * strength)], 1)
    return grid(pairs.reshape(-1, *pairs.shape[2:]), 2 * columns, [text for one in captions for text in (one, "")])


def _tinted(ground: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """A ground (count, 1, height, width) under values in -1..1: orange above 0, blue below, and opaque at the ends."""
    share = np.abs(values)[:, None]
    colours = np.where(values[:, None] > 0, np.reshape(ORANGE, (3, 1, 1)), np.reshape(BLUE, (3, 1, 1)))
    return np.asarray(ground * (1 - share) + colours * share)


def _shrinking(*sides: int) -> int:
    """By what an image is made smaller, so that nobody has to look at pictures of many megapixels."""
    return -(-max(sides) // LARGEST)


def _width(line: str) -> int:
    return int(font_for(line, FONT).getlength(line)) + 1


def _colours(image: NDArray[Any]) -> NDArray[Any]:
    """Red, green and blue, of images of any channels."""
    return image[:3] if len(image) >= 3 else image[:1].repeat(3, axis=0)


def _enlarged(image: NDArray[Any]) -> Image.Image:
    pixels = np.round(image.clip(0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(_colours(pixels).transpose(1, 2, 0)))
    picture = picture.reduce(_shrinking(*picture.size))
    factor = max(1, round(SIDE / max(picture.size)))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
