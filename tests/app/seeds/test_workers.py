"""Processes side by side: the last words of each are heard, and an end that is asked for reaches each of them once."""

import os
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from multiprocessing import Pipe, get_context
from pathlib import Path

import pytest

from cnntrain.app.display import Silent
from cnntrain.app.seeds import workers
from cnntrain.app.seeds.run import SeedRuns
from cnntrain.app.seeds.shares import Share
from cnntrain.app.seeds.workers import _interrupts_held, _Parent, _Queue, _Worker
from tests.faults.cases import wait_for


def test_an_orphan_asks_itself_once():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
    try:
        reader, writer = Pipe(duplex=False)
        parent = _Parent(writer)
        parent.tell("say", 0, "a line")
        assert (reader.recv(), heard) == (("say", 0, "a line"), [])
        reader.close()
        for _ in range(3):
            parent.tell("say", 0, "another")
        assert heard == ["SIGTERM"]
    finally:
        signal.signal(signal.SIGTERM, before)


# A message begins with its length.
@pytest.mark.parametrize("said", [b"", struct.pack("!i", 100) + b"half"], ids=["nothing", "half a word"])
def test_a_process_that_dies_while_it_goes_on_with_a_run_of_another_is_told_of(said):
    runs, queue = SeedRuns(Silent(), 2), _Queue([Share(1, Fraction(1))])
    runs.hear("paused", 1)
    assert queue.next_share([0], runs) == Share(1, Fraction(1))
    reader, writer = Pipe(duplex=False)
    os.write(writer.fileno(), said)
    writer.close()
    process = get_context("spawn").Process(target=os._exit, args=(9,))
    process.start()
    queue.worker = _Worker(1, process, reader)
    process.join()
    queue.hear(runs)
    assert queue.worker is None and reader.closed
    assert runs.failures[1].why == "its process ended with 9; repeat the command to continue"


@pytest.mark.parametrize(
    ("is_out_of_reach", "heard", "asked"),
    [(True, "SIGINT", ["end"]), (False, "SIGINT", []), (False, "SIGTERM", ["end"])],
)
def test_a_process_that_hears_ctrl_c_itself_is_not_ended_by_force(monkeypatch, is_out_of_reach, heard, asked):
    ended = []

    class Process:
        def terminate(self):
            ended.append("end")

    monkeypatch.setattr(workers, "IS_OUT_OF_REACH", is_out_of_reach)
    queue = _Queue([], _Worker(1, Process(), None))
    queue.end(heard)
    assert (ended, queue.worker.is_to_end) == (asked, True)


def test_a_process_that_is_asked_to_end_before_it_listens_was_interrupted():
    runs, (reader, writer) = SeedRuns(Silent(), 2), Pipe(duplex=False)
    process = get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    queue = _Queue([], _Worker(1, process, reader))
    queue.end("SIGTERM")
    process.join()
    writer.close()
    queue.hear(runs)
    assert runs.failures[1].why == "interrupted; repeat the command to continue"


@pytest.mark.parametrize("message", [("failed", 1, "no disk"), ("summary", 1, {})])
def test_a_run_that_has_ended_in_one_process_is_not_begun_in_another(message):
    runs, queue = SeedRuns(Silent(), 3), _Queue([Share(1, Fraction(1)), Share(2, Fraction(1))])
    runs.hear(*message)
    assert queue.next_share([None], runs) == Share(2, Fraction(1))
    assert queue.next_share([None], runs) is None


class Ending:
    """A process that says its last words and ends just when it is looked at."""

    exitcode = 0

    def __init__(self, pipe, *words):
        self.pipe, self.words = pipe, words

    def is_alive(self):
        for word in self.words:
            self.pipe.send(word)
        self.pipe.close()
        return False

    def join(self):
        pass


def test_the_last_words_of_a_process_are_heard():
    runs, (reader, writer) = SeedRuns(Silent(), 1), Pipe(duplex=False)
    queue = _Queue([], _Worker(1, Ending(writer, ("progress", 1, 8, 8), ("summary", 1, {"seed": 1})), reader))
    queue.hear(runs)
    assert (runs.done, runs.summaries, runs.failures) == ({1: (8, 8)}, {1: {"seed": 1}}, {})


def test_ctrl_c_is_for_the_parent_which_passes_it_on_once_and_begins_nothing_more(tiny, tmp_path):
    # The second process begins with seed 1; seed 2, and the end of seed 1, are still to come.
    words = ["train", str(tiny), "training.epochs=100000", "--seeds", "0-2", "--jobs", "2", "--run-dir", str(tmp_path)]
    command = [sys.executable, "-m", "cnntrain", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    runs = [tmp_path / f"seed-{seed}" for seed in (0, 1)]
    try:
        wait_for(lambda: all((run / "metrics.csv").exists() for run in runs))
        first, second = (int((run / ".owner").read_text().split()[0]) for run in runs)
        # Held up, so that the other ends while there is still something to wait for.
        os.kill(first, signal.SIGSTOP)
        try:
            os.killpg(process.pid, signal.SIGINT)
            wait_for(lambda: not Path(f"/proc/{second}").exists(), 60)
        finally:
            os.kill(first, signal.SIGCONT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert "error: interrupted by SIGINT; what was trained is saved" in err
    for run in runs:
        assert "interrupted by SIGTERM; resume with: " in (run / "log.txt").read_text().splitlines()[-1]
    assert not (tmp_path / "seed-2").exists()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals can't be held here")
def test_a_process_that_is_only_starting_does_not_hear_ctrl_c():
    process = get_context("spawn").Process(target=signal.raise_signal, args=(signal.SIGINT,))
    with _interrupts_held():
        process.start()
    process.join()
    assert process.exitcode == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
