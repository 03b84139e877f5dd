"""Runs that take turns in one process, as they share a GPU."""

from __future__ import annotations

import traceback
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path

from cnntrain.app import device as devices
from cnntrain.app.seeds.run import Relay, SeedRuns, begin_or_resume, reported
from cnntrain.app.signals import listening
from cnntrain.app.train import Training, only_thread
from cnntrain.app.where import Where
from cnntrain.config.schema import Config
from cnntrain.training.lane import Lane


def work_in_turns(waiting: list[tuple[int, Config]], root: Path, where: Where, jobs: int, runs: SeedRuns) -> str | None:
    """Let `jobs` runs take turns until nothing is left to do, or a signal asks for an end, which it gives."""
    running: dict[int, tuple[Lane, Training]] = {}
    with only_thread(), listening() as request, ExitStack() as left:
        while (waiting and not request.signal) or running:
            while waiting and len(running) < jobs and not request.signal:
                seed, config = waiting.pop(0)
                relay = Relay(seed, runs.hear)
                training = begin_or_resume(config, root / f"seed-{seed}", where, relay, nullcontext(request))
                running[seed] = Lane(devices.choose(where.device)), left.enter_context(closing(training))
            for seed, (lane, training) in list(running.items()):
                if not _advance(seed, lane, training, runs):
                    del running[seed]
    return request.signal


def _advance(seed: int, lane: Lane, training: Training, runs: SeedRuns) -> bool:
    """One step; gives whether more are to come, and tells the summary, or what went wrong, after the last."""
    try:
        with reported(seed, runs.hear), lane.turn():
            next(training)
            return True
    except StopIteration as end:
        runs.hear("summary", seed, end.value)
    except Exception as error:
        # What nobody foresaw ends this run alone, as it would end a process of its own.
        traceback.print_exc()
        runs.hear("failed", seed, f"{type(error).__name__}: {error}")
    return False
