"""`kill -9` at any instant of training: the run goes on to the same bits, no row twice or missing."""

import os
import signal
import sys
import tempfile
from pathlib import Path
from random import Random

import pytest

from .cases import Row, assert_same_runs, config_of, go_on, repeat, start, whole

# What Python tells auditors of that changes a disk. A kill at its n-th event stands in the window before it.
CHANGES = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "tempfile.mkstemp"}
# So many changes to files a run of CONFIG makes, about.
EVENTS = 196


def _train(run: Path, at_event: int | None) -> None:
    """Train or go on, and die at an event if one is named."""
    if at_event is not None:
        left = at_event

        def audit(event, arguments):
            nonlocal left
            if event in CHANGES and str(run.parent) in str(arguments):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(audit)
    go_on(run, config_of())


def killed_at_an_instant(random: Random, run: Path) -> None:
    process = start(_train, run, None)
    process.join(random.uniform(0.02, 1.0))
    process.kill()
    process.join()


def killed_at_a_write(random: Random, run: Path) -> None:
    process = start(_train, run, random.randrange(1, EVENTS))
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode


def case(random: Random, kill) -> None:
    """One to three kills, then to the end: as if nothing had happened."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        for _ in range(random.randrange(1, 4)):
            kill(random, run)
        go_on(run, config_of())
        assert_same_runs(whole(), run)
        left = [path.name for path in Path(folder).rglob("*") if path.name.endswith(".part")]
        assert not left, left


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kill", [killed_at_an_instant, killed_at_a_write])
def test_a_killed_run_ends_with_the_same_bits(kill, seed):
    case(Random(seed), kill)


def test_every_window_of_the_first_steps_and_of_the_end(tmp_path):
    """Each event in turn of a run's making, and of its last ones, where mistakes would be left for good."""
    for number in (*range(1, 14, 3), 150, 175, 185, 190):
        run = tmp_path / str(number) / "run"
        run.parent.mkdir()
        process = start(_train, run, number)
        process.join(120)
        go_on(run, config_of())
        assert_same_runs(whole(), run)


ROWS: list[Row] = [
    ("kill -9 at a random instant", lambda random, end: repeat(lambda r: case(r, killed_at_an_instant), random, end)),
    ("kill -9 between two writes", lambda random, end: repeat(lambda r: case(r, killed_at_a_write), random, end)),
]
