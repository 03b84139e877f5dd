"""What rows of the soak are made of: a case that raises is a failure, and is repeated with other random numbers."""

import csv
import json
import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic

# Started in the background, it would ignore the signal that it sends itself.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A fault that fails everywhere needs no thousand witnesses.
ENOUGH_FAILURES = 20
# Kept until the process ends.
FOLDERS: list[TemporaryDirectory] = []
TIMES = {"seconds", "images_per_second"}

# Everything that has a state: momentum, running statistics, dropout, augmentation, a schedule with memory.
CONFIG = """
data: {source: digits, limit: 300, augment: [{shift: 1}]}
network:
  - conv: {filters: 4, kernel_size: 3, activation: relu}
  - batch_norm
  - max_pool: 2
  - fully_connected: {units: 16, activation: relu, dropout: 0.2}
  - softmax
training:
  epochs: 4
  batch_size: 32
  optimizer: {sgd: {learning_rate: 0.1, momentum: 0.9}}
  schedule: {halve_on_plateau: {patience: 1}}
  checkpoint_every: {steps: 4}
"""


@dataclass
class Outcome:
    """How many cases were run, and what was wrong with those that failed."""

    cases: int = 0
    failures: list[str] = field(default_factory=list)


# Works on a fault until the deadline (of `time.monotonic`), all choices taken from the generator.
Row = tuple[str, Callable[[Random, float], Outcome]]


def repeat(case: Callable[[Random], None], random: Random, deadline: float) -> Outcome:
    """Run a case again and again, at least once; each has a seed of its own, named where it fails."""
    outcome = Outcome()
    while not outcome.cases or (monotonic() < deadline and len(outcome.failures) < ENOUGH_FAILURES):
        attempt(case, random, outcome)
    return outcome


def attempt(case: Callable[[Random], None], random: Random, outcome: Outcome) -> None:
    """Run a case once, and count it."""
    seed = random.getrandbits(32)
    outcome.cases += 1
    try:
        case(Random(seed))
    except Exception as error:
        outcome.failures.append(f"seed {seed}: {type(error).__name__}: {error}")


def config_of(text: str = CONFIG, *overrides: str):
    """A config from its text."""
    from cnntrain.app.configure import load_config

    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text)
        return load_config(path, overrides)


@cache
def whole(text: str = CONFIG, *overrides: str) -> Path:
    """A run of a config that nothing interrupted; nobody must change it."""
    from cnntrain.app.train import train_run
    from cnntrain.app.where import Where

    folder = TemporaryDirectory()
    FOLDERS.append(folder)
    run = Path(folder.name) / "whole"
    train_run(config_of(text, *overrides), run, Where(device="cpu"))
    return run


def start(target: Callable[..., None], *arguments):
    """A process of our own in which everything heavy is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cnntrain.app.train", "cnntrain.app.report"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def assert_same(one, other, path="checkpoint"):
    """Equal to the bit, times left aside."""
    import torch

    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), path
    elif isinstance(one, dict):
        assert set(one) == set(other), path
        for key in one.keys() - TIMES:
            assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{path}.{index}")
    else:
        assert one == other, f"{path}: {one} is not {other}"


def rows(run: Path, name: str = "metrics"):
    """The rows of a run's CSV file, without times."""
    with (run / f"{name}.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def assert_same_runs(one: Path, other: Path) -> None:
    """Weights, all other state, metrics and the summary's figures are the same bits; the second run is sound."""
    from cnntrain.app.doctor import examine
    from cnntrain.run import checkpoint

    for name in ("last.pt", "best.pt"):
        a, b = (vars(checkpoint.load(run / "checkpoints" / name)) for run in (one, other))
        assert_same(a, b, name)
    for name in ("metrics", "diagnostics"):
        assert rows(one, name) == rows(other, name), name
    figures = ("stopped", "epochs", "best", "last", "verdict", "data", "seed", "parameters", "images")
    a, b = (json.loads((run / "summary.json").read_text()) for run in (one, other))
    for figure in figures:
        assert_same(a[figure], b[figure], f"summary.{figure}")
    found = examine(other)
    assert not found.problems and not found.notes, found


def go_on(run: Path, config) -> None:
    """What a person does after a crash: resume the run, or begin it where there is none."""
    from cnntrain.app.train import resume_run, train_run
    from cnntrain.app.where import Where

    if run.exists():
        resume_run(run, (), Where(device="cpu"))
    else:
        train_run(config, run, Where(device="cpu"))


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    """Until it holds; a failure when it doesn't in time."""
    from time import sleep

    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, f"waited {seconds} s in vain"
        with suppress(InterruptedError):
            sleep(0.01)
