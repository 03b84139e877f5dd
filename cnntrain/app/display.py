"""What the program tells while it works; the command line draws it, other callers may ignore it."""

from __future__ import annotations

from typing import Protocol

from cnntrain.data.images import Reporter


class Display(Reporter, Protocol):
    """Lines to say, and how far the work is."""

    def warn(self, line: str) -> None:
        """Tell a line that asks for attention."""
        ...


class Silent:
    """A display that shows nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    def warn(self, line: str) -> None:
        """Nothing."""

    def progress(self, done: int, total: int, what: str) -> None:
        """Nothing."""
