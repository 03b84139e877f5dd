"""Fonts for class names in all scripts: matplotlib's own, and what systems bring along."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

OWN = "DejaVu Sans"
OTHERS = [
    "Noto Sans CJK JP",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Micro Hei",
    "Arial Unicode MS",
]


@cache
def families() -> list[str]:
    """matplotlib's own font, then the others that are installed."""
    installed = set(font_manager.get_font_names())
    return [OWN, *(name for name in OTHERS if name in installed)]


@cache
def _file(family: str) -> tuple[str, frozenset[int]]:
    """A font's file, and the characters that it has."""
    path = font_manager.findfont(family)
    return path, frozenset(FT2Font(path).get_charmap())


def font_for(text: str, size: int) -> FreeTypeFont:
    """The first font that has all characters of a text; matplotlib's own where none has."""
    wanted = {ord(character) for character in text if not character.isspace()}
    path = next((path for path, known in map(_file, families()) if wanted <= known), _file(OWN)[0])
    return ImageFont.truetype(path, size)
