"""Warnings that nobody needs to hear, silenced for a while; in any number of threads."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Literal

Filter = tuple[Literal["ignore", "error"], type[Warning]]

# What a library remarks to those who program with it.
REMARKS: tuple[Filter, ...] = (("ignore", UserWarning), ("ignore", DeprecationWarning), ("ignore", FutureWarning))

_lock = Lock()
_threads = 0
# Undoes what the first thread of several began.
_undo = ExitStack()


@contextmanager
def filtering(*filters: Filter) -> Iterator[None]:
    """Warnings of some kinds ignored, or raised as errors, until the last thread has left.

    `warnings.catch_warnings` restores what it found. In threads that leave in another order than they came that is
    what one of the others had set, for good.
    """
    if getattr(sys.flags, "context_aware_warnings", False):
        # Python 3.14 can keep threads apart.
        with warnings.catch_warnings():
            _set(filters)
            yield
        return
    _enter(filters)
    try:
        yield
    finally:
        _leave()


def _enter(filters: tuple[Filter, ...]) -> None:
    global _threads
    with _lock:
        if not _threads:
            _undo.enter_context(warnings.catch_warnings())
        _threads += 1
        _set(filters)


def _leave() -> None:
    global _threads
    with _lock:
        _threads -= 1
        if not _threads:
            _undo.close()


def _set(filters: tuple[Filter, ...]) -> None:
    for action, kind in filters:
        warnings.simplefilter(action, kind)
