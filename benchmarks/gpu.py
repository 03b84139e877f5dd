"""Times whole epochs on a GPU by its own clock: `python -m benchmarks.gpu`, after which `benchmarks.report` adds them.

With words, `python -m benchmarks.gpu W3-10 compiled`, only what has one of them in its name, added to what the same
GPU and versions gave before.

The last epoch counts; those before it, in which graphs are recorded, are a warm-up. What has an aim comes first, for
the time to measure in may end. Peers are timed for some seconds after a second's warm-up: the idiomatic loop
everywhere, Lightning and Keras, where they are installed, on the book's networks at its mini-batch. Of two of these the
kernels of a step are counted. Configs that are to reach an accuracy are trained by the command, several seeds each.
What fails is told, and keeps nothing else from being measured.
"""

from __future__ import annotations

import csv
import gc
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.peers.cnntrain_loop import prepared
from benchmarks.run import IMAGES, environment
from benchmarks.trials import TRIALS
from benchmarks.workloads import WORKLOADS
from cnntrain.training import loop
from cnntrain.training.lane import Lane
from cnntrain.training.rows import EpochResult

RESULTS = Path(__file__).parent / "results" / "gpu.json"
CUDA = torch.device("cuda")
LARGEST = 1024
# Configs that reach an accuracy, and how many seeds are to reach it.
ACCURATE = {"configs/mnist/fast.yaml": 5, "configs/mnist/accurate.yaml": 3}
# The workloads at the book's mini-batch that are to take a certain time.
AIMS = ("W3", "W4")
# An epoch of each engine after so many others.
EPOCHS = {"graph": 3, "eager": 2, "compiled": 3}
# Peers with a `train` that takes a device, and the package that each needs.
PEERS = {"idiomatic": "torch", "lightning_trainer": "lightning", "keras_fit": "keras"}
EVERYWHERE = ("idiomatic",)
# Seconds and steps that a peer trains at least, before it is timed and while it is.
WARM_UP, TIMED = (1.0, 20), (2.0, 100)
# Steps that are looked into, so many of their kernels, and so much of a kernel's name.
PROFILED, LONGEST, KERNEL = 200, 12, 80
Figures = dict[str, float]
# A part of the results, the name of what is measured, and what measures it.
Measurement = tuple[str, str, Callable[[], Figures]]


class Enough(Exception):
    """The peer has trained as long as it had to."""


class Clock:
    """Seconds on the device between two moments."""

    def __init__(self) -> None:
        self.began, self.ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.began.record()

    def seconds(self) -> float:
        """Since it was made; waits for the device."""
        self.ended.record()
        self.ended.synchronize()
        return float(self.began.elapsed_time(self.ended)) / 1000


def epoch_figures(workload: str, batch_size: int, engine: str, precision: str = "float32") -> Figures:
    """Seconds of an epoch of cnntrain, without what is done at its end, and to the first step; the GPU's memory.

    Raises `RuntimeError` where the engine can't be had.
    """
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held, began, first = torch.cuda.memory_allocated(), perf_counter(), 0.0
    plan, state = prepared(workload, batch_size, device=CUDA, engine=engine, precision=precision)
    times, clock = [], Clock()
    for item in loop.train(plan, state):
        _check(item)
        if isinstance(item, loop.Progress) and not first:
            torch.cuda.synchronize()
            first = perf_counter() - began
        if isinstance(item, loop.Progress) and item.batch == item.batches and len(times) < item.epoch:
            times.append(clock.seconds())
            if len(times) == EPOCHS[engine]:
                break
        elif isinstance(item, EpochResult):
            clock = Clock()
    epoch = times[-1] * IMAGES / len(plan.feeds.train)
    taken = torch.cuda.max_memory_allocated() - held
    return {"epoch": epoch, "first_step_seconds": first, "peak_mib": taken / 2**20}


def under(trial: Callable[[], AbstractContextManager[None]], measure: Callable[[], Figures]) -> Figures:
    """The figures while something is tried."""
    with trial():
        return measure()


def kernels(workload: str, batch_size: int, device: torch.device = CUDA) -> Figures:
    """How many kernels a step has, on a CPU operations; the microseconds in them, and those of each of the longest."""
    is_cpu = device.type == "cpu"
    plan, state = prepared(workload, batch_size, device=device)
    training, end = loop.train(plan, state), plan.batches
    while state.step <= end:
        _check(next(training))
    begin = state.step
    # What is still under way is not counted.
    _wait_for(device)
    with profile(activities=[ProfilerActivity.CPU if is_cpu else ProfilerActivity.CUDA]) as profiler:
        while state.step < begin + PROFILED:
            next(training)
        _wait_for(device)
    steps, counts, times = state.step - begin, Counter[str](), Counter[str]()
    for one in profiler.key_averages():
        if one.device_type.name == device.type.upper():
            counts[one.key[:KERNEL]] += one.count
            times[one.key[:KERNEL]] += one.self_cpu_time_total if is_cpu else one.self_device_time_total
    longest = {f"{counts[name] / steps:.1f} x {name}": time / steps for name, time in times.most_common(LONGEST)}
    return {"kernels": counts.total() / steps, "microseconds": times.total() / steps, **longest}


def peer_seconds(peer: str, workload: str, batch_size: int) -> float:
    """An epoch of a peer, from some seconds of it."""
    module = importlib.import_module(f"benchmarks.peers.{peer}")
    steps, began, clock, least, a_step = 0, perf_counter(), Clock(), WARM_UP, 0.0

    def tick() -> None:
        nonlocal steps, began, clock, least, a_step
        steps += 1
        if steps < least[1] or perf_counter() - began < least[0]:
            return
        if least is TIMED:
            a_step = clock.seconds() / steps
            raise Enough
        steps, began, clock, least = 0, perf_counter(), Clock(), TIMED

    with suppress(Enough):
        module.train(workload, batch_size, tick, CUDA)
    return a_step * -(-IMAGES // batch_size)


def seconds_in_turns(workload: str, batch_size: int, networks: int, device: torch.device = CUDA) -> float:
    """An epoch of so many networks that take turns, as `cnntrain train --seeds` trains them; two are a warm-up."""
    lanes = [Lane(device) for _ in range(networks)]
    trainings = []
    for lane in lanes:
        with lane.turn():
            trainings.append(loop.train(*prepared(workload, batch_size, device=device)))
    seconds = 0.0
    for _ in range(3):
        began = perf_counter()
        _take_turns(lanes, trainings, lambda item: isinstance(item, loop.Progress) and item.batch == item.batches)
        _wait_for(device)
        seconds = perf_counter() - began
        _take_turns(lanes, trainings, lambda item: isinstance(item, EpochResult))
    return seconds


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _take_turns(lanes: list[Lane], trainings: list[Iterator[Any]], is_last: Callable[[Any], bool]) -> None:
    """Let each go on until it gives its last item."""
    going = list(zip(lanes, trainings, strict=True))
    while going:
        for lane, training in list(going):
            with lane.turn():
                item = next(training)
                _check(item)
                if is_last(item):
                    going.remove((lane, training))


def _check(item: Any) -> None:
    """Raise `RuntimeError` where training goes on, but not as it was to."""
    if isinstance(item, loop.Remark) and item.text.startswith("training goes on"):
        raise RuntimeError(item.text)


def trained(config: str, seeds: int) -> dict[str, float]:
    """Means over seeds: test accuracy (and the lowest), seconds of training, of the command, of steady epochs."""
    # Lists the fonts, once on a machine, which takes half a minute and is no part of a command's time.
    importlib.import_module("matplotlib.font_manager")
    runs = [_trained(config, seed) for seed in range(seeds)]
    means = {name: mean(run[name] for run in runs) for name in runs[0]}
    return means | {"lowest": min(run["accuracy"] for run in runs), "seeds": seeds}


def _trained(config: str, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        began = perf_counter()
        words = ["train", config, f"seed={seed}", "--run-dir", f"{folder}/run", "--json"]
        done = subprocess.run([sys.executable, "-m", "cnntrain", *words], capture_output=True, text=True)
        wall = perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"seed {seed} ended with {done.returncode}: {done.stderr[-500:]}")
        with (Path(folder) / "run" / "metrics.csv").open(newline="") as rows:
            epochs = [float(row["seconds"]) for row in csv.DictReader(rows)]
    summary = json.loads(done.stdout)
    steady = len(epochs) * mean(epochs[1:])
    return {
        "accuracy": summary["best"]["test_accuracy"],
        "steady": steady,
        "seconds": summary["seconds"],
        "wall": wall,
    }


def measurements() -> Iterator[Measurement]:
    """All that is to be measured."""
    for workload in AIMS:
        yield _by_graph(workload, 10)
    yield "more", "in turns", lambda: {str(count): seconds_in_turns("W4", 10, count) for count in (1, 5)}
    for config, seeds in ACCURATE.items():
        yield "accurate", config, partial(trained, config, seeds)
    yield from _case("W5", 512)
    yield "more", "W5-512 bfloat16 graph", partial(epoch_figures, "W5", 512, "graph", "bfloat16")
    for workload, (what, trial) in product(AIMS, TRIALS.items()):
        graph = partial(epoch_figures, workload, 10, "graph")
        yield "more", f"{workload}-10, {what}", partial(under, trial, graph)
    for workload, given in WORKLOADS.items():
        for batch_size in (*given.batch_sizes, LARGEST) if workload != "W5" else ():
            yield from _case(workload, batch_size)
    # Compilation takes longest, and fails where there is no compiler.
    for workload in AIMS:
        yield "more", f"{workload}-10, compiled", partial(epoch_figures, workload, 10, "compiled")
    yield "more", "W5-512 bfloat16 compiled", partial(epoch_figures, "W5", 512, "compiled", "bfloat16")
    # What looks into kernels may stay, and slow down all else.
    for workload in AIMS:
        yield "more", f"kernels of {workload}-10", partial(kernels, workload, 10)


def _by_graph(workload: str, batch_size: int) -> Measurement:
    return "cases", f"{workload}-{batch_size}", partial(epoch_figures, workload, batch_size, "graph")


def _case(workload: str, batch_size: int) -> Iterator[Measurement]:
    """A workload by each engine and each peer; what is an aim was measured as a graph before."""
    name = f"{workload}-{batch_size}"
    if not (workload in AIMS and batch_size == 10):
        yield _by_graph(workload, batch_size)
    yield "cases", name, lambda: {"eager": epoch_figures(workload, batch_size, "eager")["epoch"]}
    for peer, package in PEERS.items():
        if find_spec(package) and (peer in EVERYWHERE or (workload != "W5" and batch_size == 10)):
            yield "cases", name, lambda peer=peer: {peer: peer_seconds(peer, workload, batch_size)}


def main(words: Sequence[str] = ()) -> None:
    """Measure, of all or of what has one of the `words` in its name, and write down what is measured as it comes."""
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu needs a GPU with CUDA, and a build of torch for it")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    place = {"environment": environment(torch.get_num_threads()), "gpu": torch.cuda.get_device_name()}
    results: dict[str, Any] = {**place, "cases": {}, "more": {}, "accurate": {}}
    if words and RESULTS.exists():
        before = json.loads(RESULTS.read_text())
        results = before | place if _made_with(before) == _made_with(results) else results
    failed = []
    for part, name, measure in measurements():
        if words and not set(words) & set(re.split("[ ,]+", name)):
            continue
        try:
            figures = measure()
        except Exception as error:
            failed.append(name)
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        results[part].setdefault(name, {}).update(figures)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{name}:", "  ".join(f"{what} {figure:.4g}" for what, figure in figures.items()), flush=True)
    if failed:
        raise SystemExit(f"not measured in whole: {', '.join(dict.fromkeys(failed))}")


def _made_with(results: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The GPU and the versions that results are of."""
    return results["gpu"], results["environment"]["versions"]


if __name__ == "__main__":
    main(sys.argv[1:])
