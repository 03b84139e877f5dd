"""What the program tells while it works; the command line draws it, other callers may ignore it."""

from __future__ import annotations

from collections.abc import Callable
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


class Logged:
    """A display that writes a run's log too, in which what was said before there was a run comes first."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._waiting: list[str] = []
        self._log: Callable[[str], None] = self._waiting.append

    def begin(self, log: Callable[[str], None]) -> None:
        """Write with `log` from now on."""
        for line in self._waiting:
            log(line)
        self._log = log

    def say(self, line: str) -> None:
        """Tell a line, now and in the log."""
        self._log(line)
        self._display.say(line)

    def warn(self, line: str) -> None:
        """Tell a line that asks for attention, now and in the log."""
        self._log(f"warning: {line}")
        self._display.warn(line)

    def progress(self, done: int, total: int, what: str) -> None:
        """Nothing for a log."""
        self._display.progress(done, total, what)
