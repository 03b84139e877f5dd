"""Signals, also where they come at a bad time; locks of the living and the dead; checkpoints within epochs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import pytest
from filelock import FileLock

from cnntrain.app.display import Silent
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.errors import ConfigError, Interrupted, UsageError
from cnntrain.run import checkpoint
from cnntrain.run.directory import RunDirectory
from cnntrain.run.owner import writer_of

from .cases import CONFIG, assert_same_runs, config_of, go_on, start, wait_for, whole

ENDLESS = "training.epochs=100000"


def command_line(*words, **options):
    command = [sys.executable, "-m", "cnntrain", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG)
    return path


def test_a_hangup_saves_within_ten_seconds(config, tmp_path):
    run = tmp_path / "run"
    process = command_line("train", config, ENDLESS, "--run-dir", run)
    wait_for((run / "metrics.csv").exists)
    process.send_signal(signal.SIGHUP)
    sent = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - sent < 10
    assert process.returncode == 130
    assert err.endswith(f"interrupted by SIGHUP; the state is saved. Resume with:\n  cnntrain train --resume {run}\n")
    assert out == ""
    assert checkpoint.load(run / "checkpoints" / "last.pt").training["step"] > 0


def test_nohup_outlives_its_terminal(config, tmp_path):
    run = tmp_path / "run"
    process = command_line("train", config, ENDLESS, "--run-dir", run, preexec_fn=_ignore_hangup)
    wait_for((run / "metrics.csv").exists)
    process.send_signal(signal.SIGHUP)
    rows = (run / "metrics.csv").read_text()
    wait_for(lambda: (run / "metrics.csv").read_text() != rows)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert "interrupted by SIGTERM" in err


def _ignore_hangup():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_report_is_drawn(config, tmp_path, number):
    run = tmp_path / "run"
    process = command_line("train", config, "training.epochs=1", "--run-dir", run)
    # The verdict is the last line of training.
    wait_for(lambda: (run / "log.txt").is_file() and len((run / "log.txt").read_text().splitlines()) == 6)
    time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert f"interrupted by {signal.Signals(number).name} while drawing the report; the training is done" in err
    assert err.rstrip().endswith(f"cnntrain report {run}")
    assert not list(run.rglob(".*.part"))


class Twice(Silent):
    """Sends two signals at once."""

    def progress(self, done, total, what):
        if done == 7:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)


def _train_and_signal_twice(run: Path, config: Path) -> None:
    from cnntrain.cli import console, main

    console.Terminal.progress = Twice.progress
    sys.argv = ["cnntrain", "train", str(config), "--run-dir", str(run), "-q"]
    main.main()


def test_a_second_signal_ends_at_once(config, tmp_path):
    run = tmp_path / "run"
    process = start(_train_and_signal_twice, run, config)
    process.join(60)
    assert process.exitcode == 130
    log = (run / "log.txt").read_text()
    assert "interrupted by SIGTERM; the last good state is kept in" in log
    # The last one of `checkpoint_every`: nothing was saved any more.
    assert checkpoint.load(run / "checkpoints" / "last.pt").training["step"] == 4
    go_on(run, config_of())
    assert_same_runs(whole(), run)


# --- checkpoints within epochs


class Stop(Silent):
    """Raises in the middle of it all, as a crash would."""

    def __init__(self, at):
        self.at = at

    def progress(self, done, total, what):
        if done == self.at:
            raise RuntimeError("a crash")


@pytest.mark.parametrize(
    ("every", "at", "steps"), [("{steps: 4}", 19, 18), ("{steps: 100}", 19, 10), ("{minutes: 1e-9}", 19, 18)]
)
def test_so_many_steps_or_minutes_apart(tmp_path, every, at, steps):
    config = config_of(CONFIG, f"training.checkpoint_every={every}")
    with pytest.raises(RuntimeError):
        train_run(config, tmp_path / "run", Where(device="cpu"), Stop(at))
    assert checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt").training["step"] == steps
    resume_run(tmp_path / "run", ["training.checkpoint_every={steps: 4}"], Where(device="cpu"))
    assert_same_runs(whole(), tmp_path / "run")


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"`checkpoint_every` takes `minutes`, `steps`, or both"):
        config_of(CONFIG, "training.checkpoint_every={}")


# --- locks


def _hold(run: Path) -> None:
    # A lock that nobody refers to is let go.
    held = RunDirectory.open(run)
    time.sleep(60)
    held.close()


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(whole(), tmp_path / "run"))


def test_two_processes_on_one_run(cnntrain, run):
    process = start(_hold, run)
    wait_for(lambda: writer_of(run) is not None)
    wait_for((run / ".owner").exists)
    outcome = cnntrain("train", "--resume", run, "training.epochs=5")
    assert outcome.code == 2
    assert f"another process ({process.pid} on " in outcome.err
    looked = cnntrain("doctor", run)
    assert looked.code == 0 and f"being written by {process.pid} on " in looked.out
    process.kill()
    process.join()
    # The lock went with its process; what is left is its name.
    taken = cnntrain("train", "--resume", run, "training.epochs=5")
    assert taken.code == 0
    assert f"process {process.pid} on " in taken.err and "ended without closing this run; continuing" in taken.err
    assert "ended without closing" not in cnntrain("train", "--resume", run, "training.epochs=6").err


def _look(run: Path, looking: Event) -> None:
    with FileLock(run / ".lock"):
        looking.set()
        time.sleep(0.1)


def test_who_looks_is_not_taken_for_a_writer(run):
    looking = get_context("forkserver").Event()
    process = start(_look, run, looking)
    assert looking.wait(60)
    RunDirectory.open(run).close()
    process.join()
    looking.clear()
    process = start(_look, run, looking)
    assert looking.wait(60)
    assert writer_of(run) is None
    process.join()


def test_a_copy_of_a_run_under_way_goes_on_by_itself(cnntrain, run, tmp_path):
    process = start(_hold, run)
    wait_for((run / ".owner").exists)
    shutil.copytree(run, tmp_path / "copy")
    assert cnntrain("train", "--resume", tmp_path / "copy").code == 0
    process.kill()
    process.join()
    assert_same_runs(whole(), tmp_path / "copy")


@pytest.mark.parametrize("attempt", range(5))
def test_many_who_want_the_same_new_run_get_one(tmp_path, attempt):
    at_once = get_context("forkserver").Barrier(8)
    processes = [start(_make, tmp_path / "run", number, at_once) for number in range(8)]
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    assert sorted(codes) == [0, 2, 2, 2, 2, 2, 2, 2]
    assert (tmp_path / "run" / "config.yaml").read_text() == f"seed: {codes.index(0)}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def _make(path: Path, number: int, at_once: Barrier) -> None:
    at_once.wait()
    try:
        RunDirectory.create(path, f"seed: {number}\n")
    except UsageError:
        sys.exit(2)


# --- what is going on in a run's files


def test_a_finished_run_that_goes_on_has_no_summary_until_it_ends(run):
    with pytest.raises(Interrupted):
        resume_run(run, ["training.epochs=6"], Where(device="cpu"), Interrupting())
    assert not (run / "summary.json").exists()
    assert "epochs: 6" in (run / "config.yaml").read_text()
    # The overrides stand in the checkpoint too.
    assert resume_run(run, [], Where(device="cpu"))["epochs"] == 6


class Interrupting(Silent):
    """Sends a signal at the first sign of life."""

    def progress(self, done, total, what):
        os.kill(os.getpid(), signal.SIGINT)


class Killed(BaseException):
    """What nothing is prepared for."""


class Killing(Silent):
    """Ends all at the first sign of life."""

    def progress(self, done, total, what):
        raise Killed


def test_overrides_hold_for_a_run_that_is_killed_before_its_next_checkpoint(run):
    with pytest.raises(Killed):
        resume_run(run, ["training.epochs=6"], Where(device="cpu"), Killing())
    assert resume_run(run, [], Where(device="cpu"))["epochs"] == 6


def test_overrides_hold_for_a_run_that_was_cut_off_before_its_first_checkpoint(run):
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    assert resume_run(run, ["training.epochs=1"], Where(device="cpu"))["epochs"] == 1
    assert "epochs: 1" in (run / "config.yaml").read_text()


def test_a_line_that_was_cut_off_stays_on_its_own(run):
    with (run / "log.txt").open("a") as file:
        file.write("epoch 5/")
    resume_run(run, [], Where(device="cpu"))
    lines = (run / "log.txt").read_text().splitlines()
    assert "epoch 5/" in lines
    assert any(line.startswith(f"{run}: finished already") for line in lines)


def test_a_config_that_was_edited_by_hand_is_told_of(cnntrain, run):
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("epochs: 4", "epochs: 9"))
    outcome = cnntrain("train", "--resume", run)
    assert outcome.code == 0
    assert f"{path} differed from the checkpoint's config; it is rewritten from the checkpoint" in outcome.err
    assert_same_runs(whole(), run)
