"""Several networks trained in one process in turns, each as if it were alone.

A GPU that small networks leave idle works on all of them at once: what one has launched runs on while the next
launches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


class Lane:
    """Random numbers, and on a GPU a stream, of one network among several."""

    def __init__(self, device: torch.device) -> None:
        self._random = torch.get_rng_state()
        self._on_gpu = _OnGpu(device) if device.type == "cuda" else None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Work on this network; what others have drawn and launched does not matter."""
        outside = torch.get_rng_state()
        with self._on_gpu.turn() if self._on_gpu else nullcontext():
            torch.set_rng_state(self._random)
            try:
                yield
            finally:
                self._random = torch.get_rng_state()
                torch.set_rng_state(outside)


class _OnGpu:
    """A graph goes on drawing from the state that it was recorded with, so each lane has a state of its own."""

    def __init__(self, device: torch.device) -> None:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        number = torch.cuda.current_device() if device.index is None else device.index
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._default = torch.cuda.default_generators[number]
        self._own = torch.Generator(device)

    @contextmanager
    def turn(self) -> Iterator[None]:
        others = self._default.graphsafe_get_state()
        self._default.graphsafe_set_state(self._own)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            # A recording that failed has had it replaced.
            self._own = self._default.graphsafe_get_state()
            self._default.graphsafe_set_state(others)
