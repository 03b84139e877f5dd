"""Starting several ranks, joining them, and what they do differently: rank 0 alone writes and speaks."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cnntrain.app import device as devices
from cnntrain.app.launched import is_launched, local_rank
from cnntrain.app.signals import handling
from cnntrain.cores import as_many_as_cores
from cnntrain.errors import CnntrainError, Diverged, Interrupted, Signalled, UsageError
from cnntrain.run.directory import RunDirectory
from cnntrain.training.distributed import Group, Ranks

# An error that all ranks meet is told by rank 0; the others wait so long before they tell theirs.
WAIT_SECONDS = 10.0


def launch(ranks: int, words: Sequence[str]) -> int:
    """Run `cnntrain` with these words in so many processes on this machine; gives the exit code.

    It is what `torchrun --standalone` does. Raises `CnntrainError` when a process is killed, and `UsageError` on
    Windows, where torch has no launcher that works.
    """
    if sys.platform == "win32":
        raise UsageError("`--devices` can't be had on Windows; use `--seeds`, or the Windows Subsystem for Linux")
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    # torch warns where a network of plugins does use all of its layers.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, as_many_as_cores() // ranks)))
    with TemporaryDirectory() as folder:
        return _launch(_config(ranks, Path(folder) / "ranks"), words)


def _config(ranks: int, meeting: Path) -> LaunchConfig:
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        # In a file: a store that listens unpickles what anybody who finds its port puts there.
        rdzv_endpoint=str(meeting),
        rdzv_configs={"store_type": "file"},
        local_addr="localhost",
        max_restarts=0,
    )


def _launch(config: LaunchConfig, words: Sequence[str]) -> int:
    try:
        elastic_launch(config, sys.executable)("-m", "cnntrain", *words)
    except SignalException:
        return Interrupted.exit_code
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            killed = CnntrainError(f"process {rank} was ended by {failure.signal_name()}")
            # As a shell says it.
            killed.exit_code = 128 - failure.exitcode
            raise killed from error
        return int(failure.exitcode)
    return 0


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """All ranks that a launcher started, or this process alone.

    On the way out, an error that is the same in all ranks is left to rank 0, and one that a single
    rank meets is told under its number.
    """
    if is_launched() and device != "cpu" and local_rank() < torch.cuda.device_count():
        # Whatever is tried out on a GPU is tried out on this rank's own.
        torch.cuda.set_device(local_rank())
    chosen = devices.choose(device)
    if not is_launched():
        yield Ranks(chosen)
        return
    ranks = Group(_own(chosen, device))
    try:
        yield ranks
    except (CnntrainError, Signalled) as error:
        raise _reported_once(error, ranks) from error
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        # Rank 0 tells it, and the launcher who died; the exit code is that of the first to end, who should know why.
        if ranks.rank:
            _wait_to_be_ended(CnntrainError.exit_code)
            raise SystemExit(CnntrainError.exit_code) from error
        said = "the connection to another process of this run is lost; see that process's message for the cause"
        raise CnntrainError(said) from error


def _own(chosen: torch.device, name: str) -> torch.device:
    """The device of this rank: the GPU of its number on this machine, or the CPU."""
    number = local_rank()
    if chosen.type == "cpu":
        return chosen
    if chosen.type != "cuda" or chosen.index is not None:
        raise UsageError(f"device `{name}` can't be shared by several processes; use `--device cuda` or `cpu`")
    if number >= torch.cuda.device_count():
        raise UsageError(f"process {number} has no GPU: there are {torch.cuda.device_count()}; start fewer processes")
    return torch.device("cuda", number)


def _reported_once(error: BaseException, ranks: Ranks) -> BaseException:
    if ranks.rank == 0:
        return error
    code: int = getattr(error, "exit_code", Interrupted.exit_code)
    if not isinstance(error, Signalled):
        _wait_to_be_ended(code)
        if not isinstance(error, Interrupted | Diverged):
            error.args = (f"rank {ranks.rank}: {error}",)
            return error
    return SystemExit(code)


def _wait_to_be_ended(code: int) -> None:
    """Let the launcher end this process when rank 0 has told the same: without a word, and with this exit code."""
    with handling(lambda name: os._exit(code)):
        sleep(WAIT_SECONDS)


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether it is what the end of another rank looks like from here."""
    said = str(error)
    return isinstance(error, dist.DistError) or any(word in said for word in ("gloo", "Connection", "NCCL"))


class ReadOnlyRunDirectory(RunDirectory):
    """A run directory as the other ranks see it: read, but never written to."""

    def __init__(self, path: Path) -> None:
        self.path, self.left_by = path, None

    @classmethod
    def create(cls, path: Path, config: str, or_beside: bool = False) -> RunDirectory:
        """Rank 0 makes it."""
        return cls(path)

    def _leave(self, *content: Any) -> None:
        """Rank 0 does it."""

    save_best = save_last = write_rows = write_events = log = close = _leave  # type: ignore[assignment]
    write_config = write_summary = forget_summary = write = go_back_to = _leave  # type: ignore[assignment]


def directory_of(ranks: Ranks) -> type[RunDirectory]:
    """What this rank opens a run directory as."""
    return ReadOnlyRunDirectory if ranks.rank else RunDirectory
