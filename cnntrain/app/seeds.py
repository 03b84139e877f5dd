"""One run for each of several seeds, side by side: on a CPU in processes of one thread each, on a GPU in turns in one.

Small networks gain little from a second thread, so that independent runs use the cores better. A GPU works on
what one process has launched at a time, so that there all runs share a process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic
from typing import Any

from cnntrain.app import device as devices
from cnntrain.app.configure import import_plugins
from cnntrain.app.display import Display, Silent
from cnntrain.app.signals import Request, listening
from cnntrain.app.train import Training, Where, finished, resumed, training
from cnntrain.config.load import from_resolved, load, resolved
from cnntrain.config.schema import Config
from cnntrain.errors import CnntrainError, Interrupted, OutOfMemory, UsageError, is_out_of_memory
from cnntrain.run.directory import read_summary
from cnntrain.training.lane import Lane

REPORT_SECONDS = 0.2


@dataclass
class _Seeds:
    """What is known of all runs: how far each is, what they gave, what went wrong."""

    display: Display
    done: dict[int, tuple[int, int]] = field(default_factory=dict)
    summaries: dict[int, dict[str, Any]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)

    def hear(self, kind: str, seed: int, *content: Any) -> None:
        """Take a message of a run."""
        if kind == "progress":
            self.done[seed] = (content[0], content[1])
            done, total = (sum(column) for column in zip(*self.done.values(), strict=True))
            self.display.progress(done, total, f"seeds {', '.join(map(str, self.done))}")
        elif kind == "summary":
            self.summaries[seed] = content[0]
        elif kind == "failed":
            self.failures[seed] = content[0]
        else:
            (self.display.warn if kind == "warn" else self.display.say)(f"seed {seed}: {content[0]}")


def train_seeds(
    config: Config, seeds: Sequence[int], root: Path, where: Where, jobs: int, display: Display | None = None
) -> list[dict[str, Any]]:
    """Train one run a seed into `root/seed-<n>`, `jobs` at once; gives their summaries in the order of `seeds`.

    A finished run is taken as it is, an interrupted one goes on. Raises `UsageError` where a run
    there has another config; when a run fails the others go on, and then `CnntrainError` is raised.
    """
    told = _Seeds(display or Silent())
    waiting = []
    for seed in seeds:
        one = config.model_copy(update={"seed": seed})
        summary = _finished(root / f"seed-{seed}", one)
        if summary:
            told.hear("summary", seed, summary)
        else:
            waiting.append((seed, one))
    signal_heard = (_work_in_turns if _can_share(config, where) else _work)(waiting, root, where, jobs, told)
    if signal_heard:
        again = "the same command goes on where they stopped"
        raise Interrupted(f"interrupted by {signal_heard}; the states are saved, and {again}")
    if told.failures:
        raise CnntrainError("\n".join(f"seed {seed}: {why}" for seed, why in sorted(told.failures.items())))
    return [told.summaries[seed] for seed in seeds]


def _finished(run_dir: Path, config: Config) -> dict[str, Any] | None:
    """The summary of a finished run of the same config; claims may differ."""
    if not (run_dir / "config.yaml").is_file():
        return None
    there, wanted = (
        resolved(one.model_copy(update={"expect": None})) for one in (load(run_dir / "config.yaml"), config)
    )
    if there != wanted:
        raise UsageError(f"{run_dir}: holds a run of another config; move it away, or name another `--run-dir`")
    return read_summary(run_dir)


@dataclass
class _Worker:
    """A process at work on one seed, and a pipe of its own: one that is killed takes no lock of others with it."""

    process: BaseProcess
    ear: Connection

    def listen(self, told: _Seeds) -> None:
        """Take what it has said."""
        try:
            while not self.ear.closed and self.ear.poll():
                told.hear(*self.ear.recv())
        except (EOFError, OSError):  # it has ended, perhaps in the middle of a word
            self.ear.close()


def _can_share(config: Config, where: Where) -> bool:
    """Whether the runs can take turns in one process; choosing deterministic algorithms is a whole process's choice."""
    return devices.choose(where.device).type == "cuda" and not config.training.deterministic


def _work_in_turns(waiting: list[tuple[int, Config]], root: Path, where: Where, jobs: int, told: _Seeds) -> str | None:
    """Let `jobs` runs take turns until nothing is left to do, or a signal asks for an end, which it gives."""
    running: dict[int, tuple[Lane, Training]] = {}
    with listening() as request, ExitStack() as left:
        while (waiting and not request.signal) or running:
            while waiting and len(running) < jobs and not request.signal:
                seed, config = waiting.pop(0)
                relay = _Relay(seed, told.hear)
                training = _begun(config, root / f"seed-{seed}", where, relay, request)
                running[seed] = Lane(devices.choose(where.device)), left.enter_context(closing(training))
            for seed, (lane, training) in list(running.items()):
                if not _advance(seed, lane, training, told):
                    del running[seed]
    return request.signal


def _advance(seed: int, lane: Lane, training: Training, told: _Seeds) -> bool:
    """One step; gives whether more are to come, and tells the summary, or what went wrong, after the last."""
    try:
        with _reported(partial(told.hear, "failed", seed)), lane.turn():
            next(training)
            return True
    except StopIteration as end:
        told.hear("summary", seed, end.value)
    except Exception as error:
        # What nobody foresaw ends this run alone, as it would end a process of its own.
        traceback.print_exc()
        told.hear("failed", seed, f"{type(error).__name__}: {error}")
    return False


def _begun(config: Config, run_dir: Path, where: Where, display: Display, request: Request | None) -> Training:
    """A run from its beginning, or from where it stopped."""
    if (run_dir / "config.yaml").is_file():
        return resumed(run_dir, (), where, display, request=request)
    return training(config, run_dir, where, display, request)


@contextmanager
def _reported(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell why a run failed, and go on."""
    try:
        yield
    except Interrupted:
        tell("interrupted")
    except (CnntrainError, OSError) as error:
        tell(str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        tell(str(OutOfMemory()))


def _work(waiting: list[tuple[int, Config]], root: Path, where: Where, jobs: int, told: _Seeds) -> str | None:
    """Keep `jobs` processes at work until nothing is left to do, or a signal asks for an end, which it gives."""
    running: dict[int, _Worker] = {}
    is_told = False
    with listening() as request:
        while (waiting and not request.signal) or running:
            while waiting and len(running) < jobs and not request.signal:
                seed, config = waiting.pop(0)
                running[seed] = _start(seed, config, root, where)
            _wait(list(running.values()))
            for seed, worker in list(running.items()):
                has_ended = not worker.process.is_alive()
                worker.listen(told)
                if has_ended:
                    _bury(seed, running.pop(seed), told)
            if request.signal and not is_told:
                # Once: a second signal would end a process before its state is saved.
                is_told = True
                for worker in running.values():
                    worker.process.terminate()
    return request.signal


def _start(seed: int, config: Config, root: Path, where: Where) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ear, mouth = context.Pipe(duplex=False)
    arguments = (resolved(config), root / f"seed-{seed}", where, seed, mouth)
    process = context.Process(target=_run_one, args=arguments, name=f"seed {seed}")
    process.start()
    # The process has the only other end, so that the pipe ends with it.
    mouth.close()
    return _Worker(process, ear)


def _wait(workers: Sequence[_Worker]) -> None:
    """Until one says something or ends; not for long, as a signal may come meanwhile."""
    ears = [worker.ear for worker in workers if not worker.ear.closed]
    wait([*ears, *(worker.process.sentinel for worker in workers)], timeout=REPORT_SECONDS)


def _bury(seed: int, worker: _Worker, told: _Seeds) -> None:
    """A process that ends without a word has died of something it couldn't report."""
    worker.process.join()
    worker.ear.close()
    if seed in told.summaries or seed in told.failures:
        return
    code = worker.process.exitcode or 0
    cause = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    told.failures[seed] = f"its process {cause}; the same command goes on where it stopped"


@dataclass
class _Relay:
    """A display that tells everything under the seed's number."""

    seed: int
    hear: Callable[..., None]
    sent: float = 0.0

    def say(self, line: str) -> None:
        self.hear("say", self.seed, line)

    def warn(self, line: str) -> None:
        self.hear("warn", self.seed, line)

    def progress(self, done: int, total: int, what: str) -> None:
        if monotonic() - self.sent >= REPORT_SECONDS:
            self.sent = monotonic()
            self.hear("progress", self.seed, done, total)


@dataclass
class _Mouth:
    """What a process says to its parent."""

    pipe: Connection
    is_orphan: bool = False

    def say(self, *message: Any) -> None:
        try:
            self.pipe.send(message)
        except OSError:
            # Nobody is left to ask for an end, or to be told of one; a second signal would end it unsaved.
            if not self.is_orphan:
                self.is_orphan = True
                os.kill(os.getpid(), signal.SIGTERM)


def _run_one(values: dict[str, Any], run_dir: Path, where: Where, seed: int, pipe: Connection) -> None:
    """The work of one process."""
    import torch

    torch.set_num_threads(1)
    if hasattr(os, "setsid"):
        # Out of the terminal's reach: the parent hears Ctrl-C, and passes it on once.
        os.setsid()
    mouth = _Mouth(pipe)
    with _reported(partial(mouth.say, "failed", seed)):
        import_plugins(where.plugins)
        run = _begun(from_resolved(values), run_dir, where, _Relay(seed, mouth.say), request=None)
        mouth.say("summary", seed, finished(run))
