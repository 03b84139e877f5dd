"""Two processes train the network that one would: real ranks, over gloo, on the CPU."""

import copy
import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import replace
from inspect import isfunction
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from cnntrain import registry
from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.launched import VARIABLES
from cnntrain.app.preparation import prepared
from cnntrain.app.ranks import ReadOnlyRunDirectory, joined
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.cores import as_many_as_cores
from cnntrain.data.batches import Resident
from cnntrain.data.preprocess import Preprocessing
from cnntrain.errors import ConfigError, Diverged, Interrupted
from cnntrain.run import checkpoint
from cnntrain.run.directory import RunDirectory
from cnntrain.training import distributed
from cnntrain.training.distributed import Group, Ranks, _SharedBatchNorm
from cnntrain.training.evaluate import Score, evaluate
from cnntrain.training.loop import Progress, train
from tests.training.test_resume import InterruptAt, assert_same_runs, rows

# Without random numbers in training, which ranks draw each for themselves.
PLAIN = ["data.augment=[]", "network.3.fully_connected.dropout=0", "training.epochs=1"]
# The last of the batches has 23 images, unequal shares, or a single one, which is fewer than there are ranks.
GROUPS = "network.1={group_norm: {groups: 4}}"
EQUAL = {
    "unequal": [*PLAIN, GROUPS, "training.batch_size=31"],
    "single": [*PLAIN, GROUPS, "training.batch_size=431"],
    "average": [*PLAIN, GROUPS, "training.batch_size=64", "training.ema_decay=0.9"],
    "batch_norm": [*PLAIN, "training.batch_size=31"],
    # One image for one of the ranks is enough for a normalization that is frozen.
    "frozen": [*PLAIN, "training.batch_size=431", "training.freeze=2"],
}
# Largest differences; torch's own batch_norm sums less exactly than the one that ranks share.
TOLERANCES = {"unequal": 1e-6, "single": 1e-6, "average": 1e-6, "batch_norm": 2e-5, "frozen": 1e-6}
# 200 images are 7 batches, of which the last has 8.
LONG = ["training.epochs=3", "training.optimizer=adam", "data.limit=200"]
DIVERGING = ["data.limit=200", "training.optimizer.sgd.learning_rate=1e30"]
SPOILT = {"output": "the output of layer `2_spoilt`", "gradient": "the gradient of layer `1_dense`"}


class Spoilt(nn.Module):
    """On the second rank alone the output, or the gradient of the input, is not a number."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, values):
        factor = math.nan if dist.is_initialized() and dist.get_rank() == 1 else 1.0
        if values.requires_grad and self.what == "gradient":
            values.register_hook(lambda gradient: gradient * factor)
        return values * (factor if self.what == "output" else 1.0)


def spoilt(given, /, what: str):
    """See `Spoilt`."""
    return Spoilt(what)


def work(folder):
    """What each of the two ranks does."""
    from cnntrain.app import ranks
    from cnntrain.training import distributed

    ranks.WAIT_SECONDS = distributed.AGREE_SECONDS = 0.0
    config = folder / "tiny.yaml"
    for name, overrides in EQUAL.items():
        train_run(load_config(config, overrides), folder / name, Where())
    train_run(load_config(config, LONG), folder / "whole", Where())
    for name in ("same", "fewer"):
        # The signal reaches rank 0 alone, which has a display; the other must hear of it.
        with suppress(Interrupted, SystemExit):
            train_run(load_config(config, LONG), folder / name, Where(), InterruptAt(10))
    with suppress(Diverged, SystemExit):
        train_run(load_config(config, DIVERGING), folder / "diverging", Where())
    registry.layers.register("spoilt")(spoilt)
    for what in SPOILT:
        network = f"network=[flatten, {{dense: 16}}, {{spoilt: {what}}}, softmax]"
        with suppress(Diverged, SystemExit):
            train_run(load_config(config, ["data.limit=200", network]), folder / what, Where())
    resume_run(folder / "same", (), Where())
    resume_run(folder / "more", (), Where())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder in which two ranks have done their work."""
    from tests.conftest import ROOT, TINY

    folder = tmp_path_factory.mktemp("ranks")
    (folder / "tiny.yaml").write_text(TINY)
    with pytest.raises(Interrupted):
        train_run(load_config(folder / "tiny.yaml", LONG), folder / "more", Where(), InterruptAt(10))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr=localhost", "--nproc-per-node=2"]
    script = folder / "work.py"
    script.write_text(
        f"import pathlib, tests.training.{Path(__file__).stem} as t; t.work(pathlib.Path({str(folder)!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(script)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert process.returncode == 0, process.stderr
    return folder


@pytest.mark.parametrize("name", EQUAL)
def test_two_ranks_make_the_updates_of_one(name, done):
    train_run(load_config(done / "tiny.yaml", EQUAL[name]), done / f"{name}-alone", Where())
    one, two = (checkpoint.load(done / run) for run in (f"{name}-alone", name))
    a, b = (torch.cat([value.double().flatten() for value in run.weights.values()]) for run in (one, two))
    assert (a - b).norm() <= TOLERANCES[name] * a.norm()
    for alone, shared in zip(rows(done / f"{name}-alone"), rows(done / name), strict=True):
        accuracies = [key for key in alone if key.endswith("accuracy")]
        assert [alone[key] for key in accuracies] == [shared[key] for key in accuracies]
        assert float(alone["train_loss"]) == pytest.approx(float(shared["train_loss"]), rel=TOLERANCES[name])


def test_resumes_to_the_same_bits_on_as_many_ranks(done):
    assert_same_runs(done / "same", done / "whole")


def test_ranks_draw_random_numbers_of_their_own(done):
    saved = checkpoint.load(done / "whole" / "checkpoints" / "last.pt").training
    assert len(saved["others"]) == 1
    assert not torch.equal(saved["random"]["cpu"], saved["others"][0]["random"]["cpu"])


def test_goes_on_with_fewer_ranks(done):
    saved = checkpoint.load(done / "fewer" / "checkpoints" / "last.pt").training
    assert 10 <= saved["step"] < 14
    summary = resume_run(done / "fewer", (), Where())
    assert (summary["epochs"], summary["last"]["step"]) == (3, 21)


def test_goes_on_with_more_ranks(done):
    summary = json.loads((done / "more" / "summary.json").read_text())
    assert (summary["epochs"], summary["last"]["step"]) == (3, 21)
    assert summary["device"] == "2 processes, each on cpu (1 thread)"
    # An epoch that one process began and two ended counts each of its images once.
    assert all(0 <= float(row["train_accuracy"]) <= 1 for row in rows(done / "more"))


def test_ranks_diverge_together(done):
    assert "first to be not finite: " in (done / "diverging" / "log.txt").read_text()


@pytest.mark.parametrize(("what", "first"), SPOILT.items())
def test_what_is_not_finite_on_one_rank_alone_is_named(what, first, done):
    assert f"first to be not finite: {first} in epoch 1, batch 1;" in (done / what / "log.txt").read_text()


def test_parts_make_up_the_whole():
    ranks = []
    for rank in range(3):
        one = Ranks(torch.device("cpu"))
        one.rank, one.size = rank, 3
        ranks.append(one)
    for count in (0, 1, 2, 3, 10, 1000):
        assert [i for one in ranks for i in range(count)[one.part(count)]] == list(range(count))
    # One process alone draws what the first of several draws.
    assert [one.purpose for one in ranks] == ["training", "training/rank 1", "training/rank 2"]


def test_what_one_process_counted_is_counted_once_by_three(tiny):
    with joined("cpu") as alone:
        given = prepared(load_config(tiny), Where(), alone, Silent())
        for item in train(given.plan, given.state):
            if isinstance(item, Progress) and item.batch == 3:
                break
        saved = copy.deepcopy(given.state.save())
        restored, random = [], []
        for rank in range(3):
            one = Ranks(alone.device)
            one.rank, one.size = rank, 3
            state = replace(given.state, ranks=one)
            torch.manual_seed(rank)
            fresh = torch.get_rng_state()
            state.restore(copy.deepcopy(saved))
            restored.append((state.totals.loss, state.totals.correct))
            random.append(torch.get_rng_state())
            # Who has come anew draws other numbers than from the beginning.
            assert not torch.equal(random[-1], fresh)
    assert restored == [(saved["totals"]["loss"], saved["totals"]["correct"]), (0, 0), (0, 0)]
    assert torch.equal(random[0], saved["random"]["cpu"])
    assert not torch.equal(random[1], random[2])


def test_a_rank_without_images_counts_for_nothing(monkeypatch):
    others = (2.0, [0.0, 1.0, 0.0], [1.0, 2.0, 0.0])
    monkeypatch.setattr(Ranks, "gather", lambda ranks, value: [value, others])
    nothing = Resident.black(0, Preprocessing((1, 2, 2), (0.0,), (1.0,)), torch.device("cpu"))
    assert evaluate(torch.nn.Flatten(), nothing, Ranks(torch.device("cpu"))) == Score(0.5, 0.25, pytest.approx(1 / 6))


def test_only_rank_0_writes():
    writers = {name for name, value in vars(RunDirectory).items() if isfunction(value) and name != "__init__"}
    assert writers <= set(vars(ReadOnlyRunDirectory))


def test_a_batch_of_fewer_images_than_ranks(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Ranks, "size", 64)
    with pytest.raises(ConfigError, match=r"a global batch of 32 images can't be shared by 64 processes"):
        train_run(load_config(tiny), tmp_path / "run", Where())
    assert not (tmp_path / "run").exists()


def test_a_last_batch_that_batch_norm_can_not_be_shared_for(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Ranks, "size", 3)
    said = (
        r"with 200 images, the last batch has 2, and `batch_norm` needs one for each of the 3 processes; choose another"
    )
    with pytest.raises(ConfigError, match=said):
        train_run(load_config(tiny, ["data.limit=200", "training.batch_size=33"]), tmp_path / "run", Where())
    assert not (tmp_path / "run").exists()


def test_shared_statistics_are_exact_in_half_precision(monkeypatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: None)
    alone = torch.nn.BatchNorm2d(3)
    shared = _SharedBatchNorm(copy.deepcopy(alone))
    values = torch.randn(31, 3, 5, 5, dtype=torch.bfloat16) + 4
    one, other = (norm(values) for norm in (alone, shared))
    assert other.dtype == one.dtype == torch.bfloat16
    # The last bit of eight may be rounded the other way.
    torch.testing.assert_close(other, one, rtol=2**-7, atol=2**-7)
    torch.testing.assert_close(shared.running_mean, alone.running_mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(shared.running_var, alone.running_var, rtol=1e-5, atol=1e-6)
    assert shared.num_batches_tracked == alone.num_batches_tracked == 1


@pytest.fixture
def group(group_of_one):
    """This process, which takes itself for that rank of so many."""

    def of(rank, size):
        one = Group(torch.device("cpu"))
        one.rank, one.size = rank, size
        return one

    return of


def test_batch_norm_within_blocks_is_shared_and_keeps_its_settings(group):
    network = nn.Sequential(nn.Sequential(nn.BatchNorm1d(3, eps=0.5, momentum=0.25)), nn.Linear(3, 2))
    alone = copy.deepcopy(network)
    values = torch.randn(8, 3)
    shared = group(0, 1).parallel(network)
    assert isinstance(network[0][0], _SharedBatchNorm)
    for is_training in (True, False):
        torch.testing.assert_close(shared.train(is_training)(values), alone.train(is_training)(values))
    torch.testing.assert_close(network.state_dict(), alone.state_dict())


@pytest.mark.parametrize(
    ("count", "shares"),
    [
        (7, [([0, 1, 2], True), ([3, 4], True), ([5, 6], True)]),
        (3, [([0], True), ([1], True), ([2], True)]),
        (2, [([0, 1], True), ([0, 1], False), ([0, 1], False)]),
    ],
)
def test_ranks_share_a_batch_or_take_it_whole_and_count_it_once(group, count, shares):
    batch = torch.arange(count)
    found = [group(rank, 3).share(batch) for rank in range(3)]
    assert [(share.tolist(), counts) for share, counts in found] == shares
    assert [group(rank, 3).own(batch).tolist() for rank in range(3)] == [share for share, _ in shares]


def test_signals_are_asked_for_about_once_a_second_of_the_slowest_rank(group, monkeypatch):
    clock, asked, others = [100.0], [], [(None, 0.25)]
    monkeypatch.setattr(distributed, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Group, "gather", lambda ranks, value: asked.append(value) or [value, *others])
    ranks, heard = group(0, 2), []
    for step in range(9):
        clock[0] += 0.125
        # This rank's own is known to nobody until all ask.
        heard.append(ranks.agree("SIGINT" if 2 <= step <= 4 else None))
        if step == 4:
            others[:] = [("SIGTERM", 0.25)]
    assert heard == [None, None, None, None, "SIGINT", None, None, None, "SIGTERM"]
    assert asked == [(None, 0.125), ("SIGINT", 0.125), (None, 0.125)]


@pytest.mark.parametrize(
    ("on_this_machine", "words"),
    [("8", "cnntrain train --devices 8"), ("4", "torchrun ... -m cnntrain train")],
)
def test_the_command_that_goes_on_starts_as_many_ranks(group, monkeypatch, on_this_machine, words):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", on_this_machine)
    assert " ".join(group(5, 8).command()) == words


# --- the command


ON_TWO = [sys.executable, "-m", "cnntrain", "train", "--devices", "2"]


def start(tiny, run, without=()):
    command = [*ON_TWO, str(tiny), "training.epochs=10000", "training.schedule=constant"]
    environment = {key: value for key, value in os.environ.items() if key not in ("CNNTRAIN_DATA_DIR", *without)}
    process = subprocess.Popen(
        [*command, "--run-dir", str(run)], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (run / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def test_a_signal_to_the_launcher_saves_and_exits_with_130(tiny):
    run = tiny.parent / "run"
    process = start(tiny, run, without=["OMP_NUM_THREADS"])
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    err = ""
    while "the state is saved" not in err:
        err += process.stderr.readline() or pytest.fail(f"it ended without a word of that: {err}")
    assert time.monotonic() - started < 10
    with process:
        err += process.stderr.read()
        assert process.stdout.read() == ""
    assert process.returncode == 130
    assert err.count("the state is saved") == 1
    # The ranks share the cores.
    assert f"; 2 processes, each on cpu ({max(1, as_many_as_cores() // 2)} thread" in err
    assert f"cnntrain train --devices 2 --resume {run}" in err
    assert "Traceback" not in err
    assert checkpoint.load(run / "checkpoints" / "last.pt").training["epoch"] >= 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_ranks_whose_launcher_is_killed_save_and_end(tiny):
    run = tiny.parent / "run"
    process = start(tiny, run)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    # They would keep the lock, and a GPU.
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "interrupted by the end of its launcher; resume with: " in (run / "log.txt").read_text().splitlines()[-1]
    with closing(RunDirectory.open(run)) as directory:
        assert directory.left_by is None


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_a_rank_that_is_killed_ends_the_run_which_goes_on_to_the_same_bits(tiny):
    run, whole = tiny.parent / "run", tiny.parent / "whole"
    process = start(tiny, run)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    out, err = process.communicate(timeout=30)
    # As of a process that is killed alone: scripts try again.
    assert (process.returncode, out) == (137, "")
    assert "Traceback" not in err
    assert "process 1 was ended by SIGKILL" in err
    saved = checkpoint.load(run / "checkpoints" / "last.pt").training
    assert saved["batch"] == 0
    epochs = f"training.epochs={saved['epoch'] + 2}"
    subprocess.run([*ON_TWO, "--resume", str(run), epochs], check=True, capture_output=True, timeout=240)
    words = [str(tiny), epochs, "training.schedule=constant", "--run-dir", str(whole)]
    subprocess.run([*ON_TWO, *words], check=True, capture_output=True, timeout=240)
    assert_same_runs(whole, run)


def test_what_goes_wrong_in_all_ranks_is_told_once(tiny, trained):
    command = [sys.executable, "-m", "cnntrain", "train", str(tiny), "--devices", "2", "--run-dir", str(trained)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("error: ") == 1
    assert "exists already" in done.stderr


def test_data_that_no_rank_can_read_is_told_once(tiny, tmp_path):
    command = [sys.executable, "-m", "cnntrain", "train", str(tiny), f"data.source={{npz: {tmp_path / 'no.npz'}}}"]
    done = subprocess.run([*command, "--devices", "2"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path / 'no.npz'}: there is no such file\n"


def test_devices_go_with_one_network(cnntrain, tiny, monkeypatch):
    assert cnntrain("train", tiny, "--devices", "2", "--seeds", "0-1").code == 2
    # What another program's launcher may leave behind is no rank of ours.
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert cnntrain("train", tiny, "training.epochs=1", "--run-dir", tiny.parent / "run").code == 0
    for name in VARIABLES:
        monkeypatch.setenv(name, "4")
    outcome = cnntrain("train", tiny, "--devices", "2")
    assert outcome.code == 2
    assert "torchrun" in outcome.err
