"""Runs side by side in processes of one thread each, as they share the cores of a CPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from cnntrain.app.configure import import_plugins
from cnntrain.app.seeds.run import REPORT_SECONDS, Relay, SeedRuns, begin_or_resume, reported
from cnntrain.app.seeds.shares import Share, divided
from cnntrain.app.signals import listening
from cnntrain.app.train import run_to_end
from cnntrain.app.where import Where
from cnntrain.config.load import from_resolved, resolved
from cnntrain.config.schema import Config
from cnntrain.errors import Paused

# Whether a process can leave its terminal, whose signals it would hear.
IS_OUT_OF_REACH = hasattr(os, "setsid")


def work(waiting: list[tuple[int, Config]], root: Path, where: Where, jobs: int, runs: SeedRuns) -> str | None:
    """Keep `jobs` processes at work until nothing is left to do, or a signal asks for an end, which it gives."""
    configs = dict(waiting)
    queues = [_Queue(shares) for shares in divided(list(configs), jobs)]
    is_told = False
    with listening() as request:
        while any(queue.worker or (queue.shares and not request.signal) for queue in queues):
            for queue in queues:
                share = None if request.signal else queue.next_share([other.seed for other in queues], runs)
                if share:
                    queue.worker = _start(share, configs[share.seed], root, where)
            _wait([queue.worker for queue in queues if queue.worker])
            for queue in queues:
                queue.hear(runs)
            if request.signal and not is_told:
                # Once: a second signal would end a process before its state is saved.
                is_told = True
                for queue in queues:
                    queue.end(request.signal)
    return request.signal


@dataclass
class _Worker:
    """A process at work on one seed, and a pipe of its own: one that is killed takes no lock of others with it."""

    seed: int
    process: BaseProcess
    pipe: Connection
    is_to_end: bool = False

    def listen(self, runs: SeedRuns) -> None:
        """Take what it has said."""
        try:
            while not self.pipe.closed and self.pipe.poll():
                runs.hear(*self.pipe.recv())
        except (EOFError, OSError):  # it has ended, perhaps in the middle of a word
            self.pipe.close()

    def reap(self, runs: SeedRuns) -> None:
        """See to its end: where it came without a word, the process has died of something it couldn't report."""
        self.process.join()
        self.pipe.close()
        if self.seed in runs.summaries or self.seed in runs.failures or self.seed in runs.paused:
            return
        code = self.process.exitcode or 0
        if self.is_to_end and code == -signal.SIGTERM:
            # It had not begun to listen.
            runs.hear("interrupted", self.seed)
            return
        cause = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        runs.hear("failed", self.seed, f"its process {cause}; repeat the command to continue")


@dataclass
class _Queue:
    """What is to be done one after the other, and the process that is at work on it."""

    shares: list[Share]
    worker: _Worker | None = None

    @property
    def seed(self) -> int | None:
        """What is worked on."""
        return self.worker.seed if self.worker else None

    def next_share(self, under_way: Sequence[int | None], runs: SeedRuns) -> Share | None:
        """What to begin now: nothing while there is work, or while the run is still in another process."""
        while not self.worker and self.shares and self.shares[0].seed not in under_way:
            share = self.shares.pop(0)
            runs.paused.discard(share.seed)
            if share.seed not in runs.summaries and share.seed not in runs.failures:
                return share
        return None

    def hear(self, runs: SeedRuns) -> None:
        """Take what the process says, and see whether it has ended."""
        if self.worker:
            has_ended = not self.worker.process.is_alive()
            self.worker.listen(runs)
            if has_ended:
                self.worker.reap(runs)
                self.worker = None

    def end(self, heard: str) -> None:
        """Ask the process to save the state, and to end, for this one has heard a signal."""
        if self.worker:
            self.worker.is_to_end = True
            # On Windows it would end at once, unsaved, and has heard Ctrl-C itself.
            if IS_OUT_OF_REACH or heard != "SIGINT":
                self.worker.process.terminate()


def _start(share: Share, config: Config, root: Path, where: Where) -> _Worker:
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    arguments = (resolved(config), root / f"seed-{share.seed}", where, share, writer)
    process = context.Process(target=_run_one, args=arguments, name=f"seed {share.seed}")
    with _interrupts_held():
        process.start()
    # The process has the only other end, so that the pipe ends with it.
    writer.close()
    return _Worker(share.seed, process, reader)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from a process that is only just starting: it hears of an end from its parent."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(workers: Sequence[_Worker]) -> None:
    """Until one says something or ends; not for long, as a signal may come meanwhile."""
    pipes = [worker.pipe for worker in workers if not worker.pipe.closed]
    wait([*pipes, *(worker.process.sentinel for worker in workers)], timeout=REPORT_SECONDS)


@dataclass
class _Parent:
    """Who has started this process, and hears of its run through a pipe."""

    pipe: Connection
    is_orphan: bool = False

    def tell(self, *message: Any) -> None:
        try:
            self.pipe.send(message)
        except OSError:
            # Nobody is left to ask for an end, or to be told of one.
            if not self.is_orphan:
                self.is_orphan = True
                signal.raise_signal(signal.SIGTERM)


def _run_one(values: dict[str, Any], run_dir: Path, where: Where, share: Share, pipe: Connection) -> None:
    """The work of one process."""
    import torch

    torch.set_num_threads(1)
    if IS_OUT_OF_REACH:
        # Of the terminal: the parent hears Ctrl-C, and passes it on once.
        os.setsid()
    parent = _Parent(pipe)
    with reported(share.seed, parent.tell):
        import_plugins(where.plugins)
        config, relay = from_resolved(values), Relay(share.seed, parent.tell)
        run = begin_or_resume(config, run_dir, where, relay, listening(may_hear_twice=True))
        try:
            parent.tell("summary", share.seed, run_to_end(run, float(share.until)))
        except Paused:
            parent.tell("paused", share.seed)
