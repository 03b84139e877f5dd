"""Images side by side in one PNG, with captions where they have any."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 72
GAP = 6
FONT, LINE = 13, 15


def grid(images: NDArray[Any], columns: int, captions: Sequence[str] = ()) -> bytes:
    """A PNG of `images` (count, channels, height, width) in 0..1, enlarged, row by row; captions go below each."""
    font = ImageFont.load_default(FONT)
    lines = [line for caption in captions for line in caption.split("\n")]
    below = LINE * max((caption.count("\n") + 1 for caption in captions), default=0)
    pictures = [_enlarged(image) for image in images]
    wide = GAP + max(pictures[0].width, *(_width(font, line) for line in lines), 0)
    tall = pictures[0].height + GAP + below
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * wide + GAP, rows * tall + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for index, picture in enumerate(pictures):
        left, top = GAP + index % columns * wide, GAP + index // columns * tall
        sheet.paste(picture, (left, top))
        if captions:
            draw.multiline_text((left, top + picture.height + 1), captions[index], "black", font, spacing=1)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _width(font: Any, line: str) -> int:
    return int(font.getlength(line)) + 1


def _enlarged(image: NDArray[Any]) -> Image.Image:
    pixels = np.round(image.clip(0, 1) * 255).astype(np.uint8)
    colours = pixels[:3] if len(pixels) >= 3 else pixels[:1].repeat(3, axis=0)
    picture = Image.fromarray(np.ascontiguousarray(colours.transpose(1, 2, 0)))
    factor = max(1, round(SIDE / max(picture.size)))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
