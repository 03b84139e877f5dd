"""Text that comes from outside: whether it can be shown and stored as it is, and how to show it if not."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence

# Control characters, which terminals obey; what reorders a line; halves of characters, which no encoding takes.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# In characters: a line, and a name below an image.
LINE, BELOW = 100, 14


def is_printable(text: str) -> bool:
    """Whether nothing in it would act on a terminal, or fail to be written; lines and tabs may be in it."""
    return _UNPRINTABLE.search(text) is None


def printable(text: str) -> str:
    """The same text with escapes, as Python writes them, in the place of what isn't printable."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def in_a_line(text: str) -> str:
    """The same printable text without an end of a line, with which it could pass itself off for another one."""
    return printable(text).replace("\n", "\\n")


def shortened(text: str, length: int) -> str:
    """The text, or its beginning and its end where it is longer than `length` characters."""
    half = (length - 3) // 2
    return text if len(text) <= length else f"{text[:half]}...{text[-half:]}"


def listed(names: Iterable[str]) -> str:
    """The names, with a gap in the middle where they would fill a line."""
    return shortened(", ".join(names), LINE)


def counted(number: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def either(ways: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b, or c`."""
    *others, last = ways
    return f"{', '.join(others)}{',' * (len(others) > 1)}{' or ' * bool(others)}{last}"


def as_command(words: Sequence[str]) -> str:
    """The words as a line for the shell; that of Windows knows no single quotes."""
    if os.name != "nt":
        return shlex.join(words)
    # Not at each start of the program.
    from subprocess import list2cmdline

    return list2cmdline(words)


def loss(value: float) -> str:
    """A loss in nats: `0.1234`, or `1.234e+29` where something went wrong."""
    return f"{value:.4f}" if value < 10_000 else f"{value:.3e}"
