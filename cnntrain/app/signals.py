"""Signals that ask for an end: the first is remembered, so that the work can be saved; the second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ASKING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Request:
    """Whether an end has been asked for, and by which signal."""

    def __init__(self) -> None:
        self.signal: str | None = None


@contextmanager
def listening() -> Iterator[Request]:
    """Remember the first signal instead of dying of it."""
    request = Request()
    # Only the main thread may set handlers; elsewhere the caller's own stay in force.
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[int, Any] = {}

    def remember(number: int, frame: FrameType | None) -> None:
        request.signal = signal.Signals(number).name
        for asking in _ASKING:
            signal.signal(asking, signal.SIG_DFL if before[asking] is None else before[asking])

    for asking in _ASKING:
        before[asking] = signal.signal(asking, remember)
    try:
        yield request
    finally:
        for asking in _ASKING:
            signal.signal(asking, signal.SIG_DFL if before[asking] is None else before[asking])
