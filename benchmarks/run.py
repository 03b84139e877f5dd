"""Times cnntrain and its peers side by side: `python -m benchmarks.run [--only W2-10 ...]`, then `benchmarks.report`.

All peers of a workload live at once, each in a process of its own that waits while another works. A round is a
number of steps by each of them in turn; the median over the rounds counts. No round reaches an epoch's end, so that
nothing is timed but steps. A turn in which other processes took more than a twentieth of a processor does not count.
Needs Linux, for what it tells about processes. CNNTRAIN_CIFAR10_FOLDER may name a folder of CIFAR-10's images.
With `--peers` nothing is kept: what was not measured side by side is not compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import sleep
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import peaks
from benchmarks.peers.torch_network import network
from benchmarks.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results" / "cpu.json"
IMAGES = 50_000
PEERS = {
    "cnntrain": ("cnntrain_loop", {}),
    "tuned": ("tuned", {}),
    "idiomatic": ("idiomatic", {}),
    "lightning": ("lightning_trainer", {}),
    "keras-jax": ("keras_fit", {"KERAS_BACKEND": "jax"}),
    "keras-torch": ("keras_fit", {"KERAS_BACKEND": "torch"}),
}
# What cnntrain is measured in besides, in one case.
MORE = {
    "W4-128": {"cnntrain-augmented": ("cnntrain_augmented", {}), "cnntrain-evaluation": ("cnntrain_evaluation", {})}
}
# By batch size, so that warm-up and all rounds fit into one epoch.
ROUNDS = {10: 15, 128: 15, 512: 7}
WARM_UP = {10: 100, 128: 20, 512: 2}
STEPS = {10: 300, 128: 24, 512: 1}
DISTURBED = 0.05
# The threads of whoever worked before spin for a while.
PAUSE_SECONDS = 0.2
PACKAGES = ("cnntrain", "torch", "numpy", "lightning", "keras", "jax", "jaxlib")


class Worker:
    """A peer at work on one workload."""

    def __init__(self, module: str, environment: dict[str, str], workload: str, batch_size: int, threads: int) -> None:
        limits = {"OMP_NUM_THREADS": str(threads), "KERAS_BACKEND": "jax"}
        words = [sys.executable, "-m", "benchmarks.worker", module, workload, str(batch_size), str(threads)]
        self.process = subprocess.Popen(
            words,
            env=os.environ | limits | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.first = self._hear()
        self.disturbance = 0.0

    def run(self, steps: int) -> dict[str, float]:
        """Let it train; gives what it answers, and notes what part of a processor all others took."""
        assert self.process.stdin
        sleep(PAUSE_SECONDS)
        others = others_seconds(self.process.pid)
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = self._hear()
        self.disturbance = (others_seconds(self.process.pid) - others) / answer["seconds"]
        return answer

    def close(self) -> None:
        """End it."""
        self.process.communicate()

    def _hear(self) -> dict[str, float]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.process.args[2:])} ended with {self.process.wait()}")  # type: ignore[index]
        answer: dict[str, float] = json.loads(line)
        return answer


def others_seconds(process: int) -> float:
    """Processor seconds that all other processes have taken, ourselves apart."""
    seconds = 0
    for thread in Path("/proc").glob("[0-9]*/task/*/schedstat"):
        if int(thread.parts[2]) not in (process, os.getpid()):
            with suppress(OSError):
                seconds += int(thread.read_text().split()[0])
    return seconds / 1e9


def undisturbed(turns: Sequence[tuple[float, float]]) -> list[float | None]:
    """Seconds a step, turn by turn; None where other processes did more than a little."""
    return [seconds if share <= DISTURBED else None for share, seconds in turns]


def measure(case: str, peers: dict[str, tuple[str, dict[str, str]]], threads: int) -> dict[str, Any]:
    """Of every peer the seconds for a step, round by round."""
    workload, batch_size = case.split("-")[0], int(case.split("-")[1])
    workers = {peer: Worker(*how, workload, batch_size, threads) for peer, how in peers.items()}
    for worker in workers.values():
        worker.run(WARM_UP[batch_size])
    turns: dict[str, list[tuple[float, float]]] = {peer: [] for peer in peers}
    for _ in range(ROUNDS[batch_size]):
        for peer, worker in workers.items():
            answer = worker.run(STEPS[batch_size])
            turns[peer].append((worker.disturbance, answer["seconds"] / STEPS[batch_size]))
    for worker in workers.values():
        worker.close()
    return {peer: {"step_seconds": undisturbed(taken)} for peer, taken in turns.items()}


def gflop_a_step(case: str) -> float:
    """Operations of a forward and backward pass over one batch, as torch counts them: additions and products apart."""
    workload, batch_size = case.split("-")
    with FlopCounterMode(display=False) as counter:
        network(workload)(torch.zeros(int(batch_size), *WORKLOADS[workload].shape)).sum().backward()
    return counter.get_total_flops() / 1e9


def environment(threads: int) -> dict[str, Any]:
    """The machine, the versions, the day."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "date": date.today().isoformat(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def begun(results: Path, place: dict[str, Any], is_all: bool) -> dict[str, Any]:
    """The results to put figures into: what is there, or nothing where all of it is measured anew.

    Raises `SystemExit` where some rows are to be measured on another machine than the others.
    """
    if is_all or not results.exists():
        return {"cases": {}, "gflop_a_step": {}, "environment": place}
    kept: dict[str, Any] = json.loads(results.read_text())
    before = kept["environment"]
    if any(before[key] != value for key, value in place.items() if key != "date"):
        raise SystemExit(f"{results} is of another machine, or of other versions: measure all, or name other --results")
    return kept | {"environment": place}


def said(case: str, figures: dict[str, Any]) -> str:
    """A line for the terminal."""
    counted = {peer: [s for s in found["step_seconds"] if s is not None] for peer, found in figures.items()}
    shown = (
        f"{peer} {1000 * median(turns):.3f} ms ({len(turns)} turns)" if turns else f"{peer} - (no turn counts)"
        for peer, turns in counted.items()
    )
    return f"{case}: {', '.join(shown)}"


def main() -> None:
    """Measure what was asked for, and put it into the results beside what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    cases = [f"{name}-{batch_size}" for name, workload in WORKLOADS.items() for batch_size in workload.batch_sizes]
    parser.add_argument("--only", nargs="+", choices=cases, default=cases, metavar="CASE", help=", ".join(cases))
    parser.add_argument("--peers", nargs="+", choices=PEERS, help="default: all, and the figures are kept")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.peers:
        for case in arguments.only:
            print(said(case, measure(case, {peer: PEERS[peer] for peer in arguments.peers}, arguments.threads)))
        return
    results = begun(arguments.results, environment(arguments.threads), set(arguments.only) == set(cases))
    results["peaks"] = peaks(arguments.threads)
    for case in arguments.only:
        figures = measure(case, PEERS | MORE.get(case, {}), arguments.threads)
        print(said(case, figures), flush=True)
        results["cases"][case] = figures
        results["gflop_a_step"][case] = gflop_a_step(case)
        arguments.results.parent.mkdir(exist_ok=True)
        arguments.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
