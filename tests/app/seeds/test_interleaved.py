"""Runs that take turns in one process, as they do on a GPU, are the runs that they are alone."""

import os
import signal

import pytest
import torch

from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.seeds import interleaved
from cnntrain.app.seeds import run as seed_run
from cnntrain.app.seeds import train as seeds
from cnntrain.app.train import train_run
from cnntrain.app.where import Where
from cnntrain.errors import CnntrainError, Interrupted, UsageError
from cnntrain.reports.rows import Rows
from cnntrain.training.engine import Engine
from cnntrain.training.lane import Lane
from tests.faults.cases import assert_same_runs

CHOICES = ["training.epochs=2"]


@pytest.fixture(autouse=True)
def shared(monkeypatch):
    """Let a CPU be treated as a GPU is."""
    monkeypatch.setattr(seeds, "_can_share", lambda config, where: True)
    monkeypatch.setattr(seeds, "work", None)


class Heard(Silent):
    """Keeps what was said, and ends the process politely after some of it."""

    def __init__(self, end=None):
        self.lines, self.warnings = [], []
        self.end = end

    def warn(self, line):
        self.warnings.append(line)

    def say(self, line):
        self.lines.append(line)
        if self.end and self.end in line:
            os.kill(os.getpid(), signal.SIGTERM)


def assert_as_alone(tiny, root, numbers):
    for number in numbers:
        alone = root.parent / f"alone-{number}"
        train_run(load_config(tiny, [*CHOICES, f"seed={number}"]), alone, Where())
        assert_same_runs(alone, root / f"seed-{number}")


def test_each_run_is_as_if_it_were_alone(tiny, tmp_path):
    display, before = Heard(), torch.get_rng_state()
    summaries = seeds.train_seeds(load_config(tiny, CHOICES), [0, 1, 2], tmp_path / "runs", Where(), 2, display)
    assert torch.equal(torch.get_rng_state(), before)
    assert [summary["seed"] for summary in summaries] == [0, 1, 2]
    epochs = [line.split("  ")[0] for line in display.lines if "epoch 1/2" in line]
    first, second, third = (next(n for n, line in enumerate(display.lines) if f"seed {s}:" in line) for s in (0, 1, 2))
    ends = [n for n, line in enumerate(display.lines) if "all 2 epochs are done" in line]
    assert len(epochs) == 3
    # Two at once; the third begins when one has ended.
    assert first < second < ends[0] < third
    assert_as_alone(tiny, tmp_path / "runs", [0, 1, 2])


def test_a_signal_saves_all_and_they_go_on(tiny, tmp_path):
    config, root = load_config(tiny, CHOICES), tmp_path / "runs"
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="by SIGTERM; what was trained is saved"):
        seeds.train_seeds(config, [0, 1, 2], root, Where(), 2, Heard("seed 1: epoch 1/2"))
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (root / "seed-2").exists()
    assert not list(root.glob("*/summary.json"))
    seeds.train_seeds(config, [0, 1, 2], root, Where(), 3, Silent())
    assert_as_alone(tiny, root, [0, 1])


def test_one_that_fails_is_told_and_the_others_go_on(tiny, tmp_path, monkeypatch):
    def begun(config, *arguments):
        if config.seed == 1:
            raise UsageError("not this one")
        return (yield from seed_run.begin_or_resume(config, *arguments))

    monkeypatch.setattr(interleaved, "begin_or_resume", begun)
    display = Heard()
    with pytest.raises(CnntrainError, match=r"^seed 1: not this one$") as caught:
        seeds.train_seeds(load_config(tiny, CHOICES), [0, 1], tmp_path / "runs", Where(), 2, display)
    assert caught.value.exit_code == 2
    assert display.warnings == ["seed 1: not this one"]
    assert (tmp_path / "runs" / "seed-0" / "summary.json").is_file()


def test_what_nobody_foresaw_ends_one_run_alone(tiny, tmp_path, monkeypatch, capsys):
    run, calls = Engine.run, []

    def fails_once(self, *arguments, **options):
        calls.append(self)
        if len(calls) == 5:
            raise RuntimeError("something odd")
        run(self, *arguments, **options)

    monkeypatch.setattr(Engine, "run", fails_once)
    config = load_config(tiny, [*CHOICES, "training.engine=eager"])
    with pytest.raises(CnntrainError, match=r"^seed [01]: RuntimeError: something odd$"):
        seeds.train_seeds(config, [0, 1], tmp_path / "runs", Where(), 2)
    assert len(list((tmp_path / "runs").glob("*/summary.json"))) == 1
    assert not list((tmp_path / "runs").glob("*/.owner"))
    assert "something odd" in capsys.readouterr().err


def test_an_end_at_once_closes_all(tiny, tmp_path):
    class Ending(Silent):
        def say(self, line):
            if "epoch 1/2" in line:
                raise KeyboardInterrupt

    # Whoever keeps the error keeps all that was under way.
    with pytest.raises(KeyboardInterrupt) as caught:
        seeds.train_seeds(load_config(tiny, CHOICES), [0, 1], tmp_path / "runs", Where(), 2, Ending())
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert not list((tmp_path / "runs").glob("*/.owner"))
    del caught


def test_a_lane_keeps_its_random_numbers():
    torch.manual_seed(1)
    alone = torch.rand(4)
    torch.manual_seed(1)
    lane, other = Lane(torch.device("cpu")), Lane(torch.device("cpu"))
    drawn = []
    for _ in range(2):
        with lane.turn():
            drawn.append(torch.rand(2))
        with other.turn():
            torch.rand(7)
        torch.rand(3)
    assert torch.equal(torch.cat(drawn), alone)


@pytest.mark.gpu
def test_a_lane_on_a_gpu_has_a_stream_and_random_numbers_of_its_own():
    device = torch.device("cuda")
    torch.manual_seed(1)
    alone = torch.rand(4, device=device), torch.rand(4, device=device)
    lanes, drawn = [Lane(device), Lane(device)], [[], []]
    before = torch.cuda.current_stream()
    for lane in lanes:
        with lane.turn():
            torch.manual_seed(1)
            assert torch.cuda.current_stream() != before
    for _ in range(2):
        for lane, into in zip(lanes, drawn, strict=True):
            with lane.turn():
                into.append(torch.rand(4, device=device))
    assert torch.cuda.current_stream() == before
    torch.cuda.synchronize()
    for into in drawn:
        assert all(map(torch.equal, into, alone))


@pytest.mark.gpu
def test_graphs_in_turns_learn_what_they_learn_alone(tiny, tmp_path):
    config, where = load_config(tiny, ["training.epochs=1", "training.engine=graph"]), Where(device="cuda")
    display = Heard()
    seeds.train_seeds(config, [0, 1], tmp_path / "runs", where, 2, display)
    assert not [line for line in display.lines if "training goes on" in line]
    for number in (0, 1):
        alone = tmp_path / f"alone-{number}"
        train_run(load_config(tiny, ["training.epochs=1", "training.engine=graph", f"seed={number}"]), alone, where)
        one, other = (Rows.read(run).column("sample_loss")[0] for run in (alone, tmp_path / "runs" / f"seed-{number}"))
        # Sums on a GPU are not always made in the same order.
        assert one == pytest.approx(other, rel=0.02)
