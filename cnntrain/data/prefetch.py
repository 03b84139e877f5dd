"""Reading pixels from a disk to a device before they are asked for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from cnntrain import cgroup

if TYPE_CHECKING:
    from torch import Tensor

    from cnntrain.data.images import Images

# Batches that are read before they are asked for.
DEPTH = 3


class Ahead:
    """A thread that reads the next batches of a split while the device is at work on one."""

    def __init__(self, images: Images, device: torch.device) -> None:
        self._images, self._device = images, device
        self._thread = ThreadPoolExecutor(1)
        self._coming: Iterator[Tensor] = iter(())
        self._read: deque[tuple[Tensor, Future[Tensor]]] = deque()

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Begin to read the images at these indices (on the CPU), in this order; what else was expected is not."""
        self._coming = iter(batches)
        self._read.clear()
        for _ in range(DEPTH):
            self._read_one_more()

    def read(self, indices: Tensor) -> Tensor:
        """The images at `indices`, on the device."""
        if not self._read:
            return self._move(self._fetch(indices.cpu()))
        expected, future = self._read.popleft()
        # Elsewhere than on a CPU the comparison would wait for the device.
        assert len(expected) == len(indices)
        assert indices.device.type != "cpu" or torch.equal(expected, indices)
        self._read_one_more()
        return self._move(future.result())

    def _read_one_more(self) -> None:
        following = next(self._coming, None)
        if following is not None:
            self._read.append((following, self._thread.submit(self._fetch, following)))

    def _fetch(self, indices: Tensor) -> Tensor:
        pixels = torch.from_numpy(self._images.pixels[indices.numpy()])
        return pixels.pin_memory() if self._device.type == "cuda" else pixels

    def _move(self, pixels: Tensor) -> Tensor:
        # Elsewhere than from pinned memory it may be read when it is gone: pytorch/pytorch#189690.
        return pixels.to(self._device, non_blocking=self._device.type == "cuda")


def memory_of(device: torch.device) -> int:
    """Bytes: what is free on a GPU, otherwise what the computer has, or what of it this process is granted."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if hasattr(os, "sysconf"):
        return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), cgroup.memory())
    return 2**33
