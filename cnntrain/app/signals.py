"""Signals that ask for an end: training remembers the first, so that the work can be saved; all else ends at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from cnntrain.errors import CnntrainError, Signalled

# The last two are how batch systems warn of the end of a job's time.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU")
_XCPU = getattr(signal, "SIGXCPU", None)
_ASKING = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class Request:
    """Whether an end has been asked for, and by which signal."""

    def __init__(self) -> None:
        self.signal: str | None = None


# Within which signals are heard.
Listening = AbstractContextManager[Request]


@contextmanager
def listening(may_hear_twice: bool = False) -> Iterator[Request]:
    """Remember the first signal instead of ending by it; the second does what it did before.

    A process that a launcher or this program has started may get each signal twice, from the terminal or a batch
    system and from who has started it: it only remembers, and that one sees to an end at once.
    """
    request = Request()
    with handling(lambda name: setattr(request, "signal", name), once=not may_hear_twice):
        yield request


@contextmanager
def ending() -> Iterator[None]:
    """Let every signal that asks for an end raise `Signalled`, so that what is half-written is taken away.

    Python drops what is raised in a callback of its garbage collection, and a library may make another
    error of it: then it is raised on the way out, so that no signal is lost. An error of ours has told of it.
    """
    request = Request()

    def end(name: str) -> None:
        request.signal = name
        raise Signalled(name)

    with handling(end), _dropped_in_silence():
        try:
            yield
        except (CnntrainError, Signalled):
            raise
        except BaseException as error:
            if request.signal:
                raise Signalled(request.signal) from error
            raise
    if request.signal:
        raise Signalled(request.signal)


@contextmanager
def _dropped_in_silence() -> Iterator[None]:
    """Keep Python from printing a traceback where it drops `Signalled`."""
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, Signalled):
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def handling(act: Callable[[str], None], once: bool = False) -> Iterator[None]:
    """Call `act` with a signal's name; what was before is put back at the end, or after the first signal."""
    # Only the main thread may set handlers; elsewhere the caller's own stay in force.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ASKING}

    def put_back(kept: int | None = None) -> None:
        for number, handler in before.items():
            if number != kept:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def handle(number: int, frame: FrameType | None) -> None:
        # That one comes again with each second of a processor's time, of which saving may take some.
        if once and number != _XCPU:
            put_back(kept=_XCPU)
        act(signal.Signals(number).name)

    for number, handler in before.items():
        # What is ignored from outside stays so: `nohup` wants a run to outlive its terminal.
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        put_back()
