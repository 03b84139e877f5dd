"""What TensorBoard draws: the figures of each epoch, where tensorboard is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from time import time, time_ns
from typing import Any

from cnntrain import atomic


class Events:
    """A run's event files, one for each process that has trained it; the first figures make it.

    TensorBoard drops from earlier files what they have of the epoch that a file begins with, and of later ones.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"events.out.tfevents.{time_ns()}"
        self._writer: Any = None
        self._is_wanted = find_spec("tensorboard") is not None

    def add(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Write the figures after an epoch under their names; raises `ImportError` where tensorboard can't be used."""
        if not self._is_wanted:
            return
        with atomic.naming(self._path):
            if self._writer is None:
                self._begin(epoch)
            self._write(step=epoch, summary=_summary(figures))
            self._writer.flush()

    def close(self) -> None:
        """Nothing is added any more."""
        if self._writer is not None:
            self._writer.close()

    def _begin(self, epoch: int) -> None:
        # Until it is known that it works.
        self._is_wanted = False
        try:
            from tensorboard.compat.proto.event_pb2 import SessionLog
            from tensorboard.summary.writer.record_writer import RecordWriter
        except Exception as error:  # as of protobuf, where its version is another than tensorboard's
            raise ImportError(f"tensorboard can't be imported: {error}") from error
        self._is_wanted = True
        self._writer = RecordWriter(self._path.open("wb"))
        self._write(file_version="brain.Event:2")
        self._write(step=epoch, session_log=SessionLog(status=SessionLog.START))

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.write(Event(wall_time=time(), **content).SerializeToString())


def _summary(figures: Mapping[str, float]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in figures.items()])
