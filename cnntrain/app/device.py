"""The device to compute on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cnntrain import cgroup
from cnntrain.cores import as_many_as_cores
from cnntrain.errors import UsageError, first_line
from cnntrain.text import counted


def choose(name: str = "auto") -> torch.device:
    """The named device, or with `auto` a GPU with CUDA where there is one, else the CPU.

    On a CPU, torch gets no more threads than a container is granted cores. Raises `UsageError` for a device that this
    machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        # Whoever wants MPS names it: nothing of it is tested, and what torch computes there was wrong more than once.
        name = "cpu"
    try:
        device = torch.device(name)
        # Some have no values to give, or a build of torch no code for them.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error)
        raise UsageError(f"device `{name}` can't be used here: {reason}; try `--device auto`") from error
    if device.type == "cpu":
        _stay_within_the_grant()
    if device.type == "cuda" and device.index is not None:
        # Streams and graphs are made on the current one.
        torch.cuda.set_device(device)
    return device


def _stay_within_the_grant() -> None:
    """torch starts a thread for each core, also where a container is given the time of fewer."""
    if "OMP_NUM_THREADS" not in os.environ and cgroup.cores() < torch.get_num_threads():
        torch.set_num_threads(as_many_as_cores())


def describe(device: torch.device) -> str:
    """The device's name for people."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({counted(torch.get_num_threads(), 'thread')})" if device.type == "cpu" else str(device)


@contextmanager
def float32_by_default() -> Iterator[None]:
    """What is drawn and made is float32, whatever a program has set; else the same seed would draw other numbers."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Only algorithms that give the same bits every time, where `wanted`; an operation without one raises.

    https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    if not wanted:
        yield
        return
    before = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    # cuBLAS reads it when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # `use_deterministic_algorithms` does the same, and imports torch's compiler for a second to tell it too.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        torch.backends.cudnn.benchmark = before[1]
