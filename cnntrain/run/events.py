"""What TensorBoard draws: the figures of each epoch, where tensorboard is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import time, time_ns
from typing import Any

from cnntrain import atomic

NAME = "events.out.tfevents."


class Events:
    """A run's event file. Each process that trains the run writes one of its own, with all epochs, in place of others'.

    So what a process that died was ahead with, or had not written yet, is neither double nor missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{NAME}{time_ns()}"
        self._writer: Any = None
        self._written = 0
        self._is_usable = find_spec("tensorboard") is not None

    def bring_to(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write what is new of the figures after each epoch, those that are floats.

        Raises `ImportError` where tensorboard can't be used.
        """
        if not self._is_usable or len(rows) == self._written:
            return
        with atomic.naming(self._path):
            if self._writer is None:
                self._begin()
            for epoch, figures in enumerate(rows[self._written :], self._written + 1):
                self._write(step=epoch, summary=_summary(figures))
            self._writer.flush()
            self._written = len(rows)
            for older in self._folder.glob(f"{NAME}*"):
                if older != self._path:
                    with suppress(OSError):  # where a system does not let go of a file that somebody reads
                        older.unlink()

    def close(self) -> None:
        """Nothing is added any more."""
        if self._writer is not None:
            self._writer.close()

    def _begin(self) -> None:
        try:
            from tensorboard.summary.writer.record_writer import RecordWriter
        except Exception as error:  # as of protobuf, where its version is another than tensorboard's
            self._is_usable = False
            raise ImportError(f"tensorboard can't be imported: {error}") from error
        self._writer = RecordWriter(self._path.open("wb"))
        self._write(file_version="brain.Event:2")

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.write(Event(wall_time=time(), **content).SerializeToString())


def _summary(figures: Mapping[str, Any]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    numbers = {name: value for name, value in figures.items() if type(value) is float}
    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()])
