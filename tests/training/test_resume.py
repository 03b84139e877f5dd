"""A run that was interrupted ends with the same bits as one that was not."""

import json
import math
import os
import shlex
import signal
from itertools import pairwise

import pytest

from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.resume import learns_otherwise
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.errors import Interrupted, UsageError
from cnntrain.run import checkpoint
from tests.faults.cases import assert_same, rows

# Everything that has a state: momentum or moments, normalization, dropout, augmentation, a schedule with memory.
CONFIGS = {
    "plateau": [
        "training.epochs=4",
        "training.schedule={halve_on_plateau: {patience: 1}}",
        "training.early_stopping={patience: 3, restore_best: true}",
    ],
    "adam": ["training.epochs=4", "training.optimizer=adam", "training.warmup_epochs=1.5", "training.clip_grad_norm=1"],
    "balanced": ["training.epochs=4", "training.shuffle=balanced", "data.expand=one_pixel_shifts", "data.limit=259"],
    "average": [
        "training.epochs=4",
        "training.ema_decay=0.9",
        "training.early_stopping={patience: 1, restore_best: true}",
        "training.on_divergence=rollback",
    ],
    "frozen": ["training.epochs=4", "training.freeze=2", "training.l2=0.1"],
    "book": ["training.epochs=4", "training.shuffle=never", "dropout_scaling=book", "training.l2=0.1"],
}


class InterruptAt(Silent):
    """Sends this process a signal when so many batches of the whole run are done, or at a word of the bar or a line."""

    def __init__(self, done, number=signal.SIGINT):
        self.at = done
        self.number = number

    def progress(self, done, total, what):
        if self.at in (done, what):
            os.kill(os.getpid(), self.number)

    def say(self, line):
        if isinstance(self.at, str) and line.startswith(self.at):
            os.kill(os.getpid(), self.number)


def assert_same_runs(one, other):
    for name in ("last.pt", "best.pt"):
        a, b = (checkpoint.load(run / "checkpoints" / name) for run in (one, other))
        assert_same(vars(a), vars(b), name)
    assert rows(one) == rows(other)


@pytest.mark.parametrize("name", CONFIGS)
def test_resumes_to_the_same_bits(name, tiny, tmp_path):
    config = load_config(tiny, CONFIGS[name])
    train_run(config, tmp_path / "whole", Where())
    # 1,293 training images are 41 batches: in the middle of epochs 1 and 2, at the end of epoch 2, and after all steps.
    for interruptions in ([15], ["epoch 2/"], [10, 55, "epoch 3/"], ["epoch 4/4, evaluation"]):
        run = tmp_path / f"interrupted-{interruptions}"
        with pytest.raises(Interrupted, match="--resume"):
            train_run(config, run, Where(), InterruptAt(interruptions[0]))
        for at in interruptions[1:]:
            with pytest.raises(Interrupted):
                resume_run(run, [], Where(), InterruptAt(at))
        resume_run(run, [], Where())
        assert_same_runs(tmp_path / "whole", run)


class InterruptAfter(InterruptAt):
    """The same at the first word after so many batches; notes at how many it was told of each."""

    def __init__(self, done=math.inf):
        super().__init__(done)
        self.seen = []

    def progress(self, done, total, what):
        self.seen.append(done)
        super().progress(self.at if done >= self.at else done, total, what)


# 324 and 1,617 batches an epoch.
@pytest.mark.parametrize(
    ("options", "few"), [([], 3), (["data={source: digits, expand: one_pixel_shifts, normalize: true}"], 10)]
)
def test_a_few_steps_at_once_are_plain_steps_also_where_they_are_interrupted(options, few, tiny, tmp_path):
    options = [*options, "training.batch_size=4", "training.epochs=2"]
    config, plain = load_config(tiny, options), load_config(tiny, [*options, "training.engine=eager"])
    display = InterruptAfter()
    train_run(config, tmp_path / "whole", Where(), display)
    assert max(after - before for before, after in pairwise(display.seen)) == few
    train_run(plain, tmp_path / "plain", Where())
    last = [checkpoint.load(tmp_path / run / "checkpoints" / "last.pt") for run in ("whole", "plain")]
    assert_same(last[0].weights, last[1].weights)
    assert rows(tmp_path / "whole") == rows(tmp_path / "plain")
    for done in (103, 400):
        run = tmp_path / f"interrupted-{done}"
        with pytest.raises(Interrupted):
            train_run(config, run, Where(), InterruptAfter(done))
        assert done <= checkpoint.load(run / "checkpoints" / "last.pt").training["step"] < done + few
        resume_run(run, [], Where())
        assert_same_runs(tmp_path / "whole", run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU])
def test_other_signals_save_too(number, tiny, tmp_path):
    run, name = tmp_path / "a run", signal.Signals(number).name
    with pytest.raises(Interrupted) as caught:
        train_run(load_config(tiny), run, Where(data_dir=tmp_path, device="cpu"), InterruptAt(4, number))
    words = ["cnntrain", "train", "--resume", str(run), "--data-dir", str(tmp_path), "--device", "cpu"]
    command = shlex.join(words)
    assert str(caught.value) == f"interrupted by {name}; the state is saved. Resume with:\n  {command}"
    logged = (run / "log.txt").read_text().splitlines()
    assert logged[-1] == f"interrupted by {name}; resume with: {command}"
    assert checkpoint.load(run / "checkpoints" / "last.pt").training["batch"] == 4


def test_a_finished_run_keeps_what_is_said_of_where_it_was_trained(tiny, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train_run(load_config(tiny, ["training.epochs=1"]), run, Where(device="cpu"))
    before = (run / "summary.json").read_bytes()
    monkeypatch.setattr("sys.argv", ["another", "command"])
    resume_run(run, [], Where(device="cpu"))
    assert (run / "summary.json").read_bytes() == before
    resume_run(run, ["training.epochs=2"], Where(device="cpu"))
    assert json.loads((run / "summary.json").read_text())["environment"]["command"] == "another command"


def test_handlers_are_put_back(tiny, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        train_run(load_config(tiny), tmp_path / "run", Where(), InterruptAt(1))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_finished_run_goes_on_with_more_epochs(tiny, tmp_path):
    summary = train_run(load_config(tiny, ["training.epochs=1"]), tmp_path / "run", Where())
    assert (summary["epochs"], summary["stopped"]) == (1, "the only epoch is done")
    again = resume_run(tmp_path / "run", [], Where())
    assert again["epochs"] == 1
    longer = resume_run(tmp_path / "run", ["training.epochs=3"], Where())
    assert longer["epochs"] == 3
    assert len(rows(tmp_path / "run")) == 3
    assert load_config(tmp_path / "run" / "config.yaml").training.epochs == 3


def test_a_finished_run_that_goes_on_has_no_summary_until_its_end(tiny, tmp_path):
    train_run(load_config(tiny, ["training.epochs=1"]), tmp_path / "run", Where())
    with pytest.raises(Interrupted):
        resume_run(tmp_path / "run", ["training.epochs=3"], Where(), InterruptAt("epoch 2/"))
    assert not (tmp_path / "run" / "summary.json").exists()


def test_who_stopped_early_in_the_last_epoch_says_so_again(tiny, tmp_path):
    config = load_config(tiny, ["training.early_stopping={patience: 2, min_delta: 1.0}"])
    run = tmp_path / "run"
    again = (resume_run(run, overrides, Where()) for overrides in ([], ["training.checkpoint_every={steps: 9}"]))
    for summary in (train_run(config, run, Where()), *again):
        assert summary["epochs"] == config.training.epochs == 3
        assert summary["stopped"] == "validation accuracy has not improved by more than 1 for 2 epochs"
        assert summary["changes"] == []


def test_a_better_best_is_remembered(tiny, tmp_path):
    train_run(load_config(tiny, ["training.epochs=3"]), tmp_path / "run", Where())
    before = checkpoint.load(tmp_path / "run" / "checkpoints" / "best.pt")
    # A decay this strong empties the network, so that no epoch after it can be the best.
    overrides = ["training.epochs=5", "training.l2=300", "training.schedule=constant"]
    summary = resume_run(tmp_path / "run", overrides, Where())
    after = checkpoint.load(tmp_path / "run" / "checkpoints" / "best.pt")
    assert summary["best"]["epoch"] == before.result["epoch"]
    assert_same(before.weights, after.weights)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seed=1", "seed"),
        ("data.normalize=true", "data"),
        ("network.0.conv.filters=5", "network"),
        ("init=book", "init"),
        ("init_from=elsewhere", "init_from"),
        ("dropout_scaling=book", "dropout_scaling"),
        ("training.optimizer=adam", "training.optimizer"),
        ("training.monitor=validation_loss", "training.monitor"),
    ],
)
def test_what_the_state_does_not_fit_is_refused(override, named, tiny, tmp_path):
    train_run(load_config(tiny, ["training.epochs=1"]), tmp_path / "run", Where())
    with pytest.raises(UsageError, match=f"^{named} can't change when a run is resumed; begin a new run instead"):
        resume_run(tmp_path / "run", ["training.epochs=2", override], Where())


def test_what_orders_the_images_of_an_epoch_stays_until_its_end(tiny, tmp_path):
    with pytest.raises(Interrupted):
        train_run(load_config(tiny), tmp_path / "run", Where(), InterruptAt(15))
    for override in ("training.batch_size=16", "training.shuffle=once"):
        said = (
            f"^{override.partition('=')[0]} can't change when a run is resumed within an epoch, only at the end of one"
        )
        with pytest.raises(UsageError, match=said):
            resume_run(tmp_path / "run", [override], Where())
    budget = "data.memory_budget=1"
    with pytest.raises(Interrupted):
        resume_run(tmp_path / "run", [budget], Where(), InterruptAt("epoch 1/"))
    summary = resume_run(tmp_path / "run", ["training.batch_size=16", "training.shuffle=once", budget], Where())
    assert summary["changes"] == ["after epoch 1, batch 0: training.batch_size=16 training.shuffle=once " + budget]


def test_the_resolved_config_gives_the_same_bits(tiny, tmp_path):
    train_run(load_config(tiny), tmp_path / "one", Where())
    train_run(load_config(tmp_path / "one" / "config.yaml"), tmp_path / "two", Where())
    assert_same_runs(tmp_path / "one", tmp_path / "two")


def test_early_stopping_that_was_changed_is_obeyed(tiny, tmp_path):
    train_run(load_config(tiny, ["training.epochs=1"]), tmp_path / "run", Where())
    # No gain is larger than 1.
    overrides = ["training.epochs=9", "training.early_stopping={patience: 2, min_delta: 1.0}"]
    assert resume_run(tmp_path / "run", overrides, Where())["epochs"] == 3


def test_a_schedule_that_counts_may_follow_one_that_does_not(tiny, tmp_path):
    train_run(load_config(tiny, ["training.epochs=1", "training.schedule=constant"]), tmp_path / "run", Where())
    summary = resume_run(tmp_path / "run", ["training.epochs=2", "training.schedule=halve_on_plateau"], Where())
    assert summary["epochs"] == 2


def test_what_lets_a_run_go_on_that_stopped_early_is_named(cnntrain, tiny, tmp_path):
    stopping = "training.early_stopping={patience: 1, min_delta: 1.0}"
    assert cnntrain("train", tiny, stopping, "--run-dir", tmp_path / "run").code == 0
    assert "add a setting that allows it, such as training.early_stopping=null, to go on" in (
        cnntrain("train", "--resume", tmp_path / "run").err
    )
    outcome = cnntrain("train", "--resume", tmp_path / "run", "training.early_stopping=null")
    assert "all 3 epochs are done" in outcome.err
    said = "finished already: all 3 epochs are done; add training.epochs=N to go on"
    assert said in cnntrain("train", "--resume", tmp_path / "run").err


@pytest.mark.parametrize(
    ("stopping", "override"),
    [
        ("{patience: 1, min_delta: 1.0}", "training.epochs=9"),
        ("{patience: 1, min_delta: 1.0, restore_best: true}", "training.epochs=9"),
    ],
)
def test_who_goes_on_after_an_early_stop_is_told_apart(stopping, override, tiny, tmp_path):
    config = load_config(tiny, ["training.schedule=constant", f"training.early_stopping={stopping}"])
    assert train_run(config, tmp_path / "run", Where())["changes"] == []
    [change] = resume_run(tmp_path / "run", [override], Where())["changes"]
    assert change.endswith(f", batch 0: {override}")


def test_who_goes_on_after_the_schedule_ended_is_told_apart(tiny, tmp_path):
    # So slow that no epoch is better than the first.
    slow = ["network=[softmax]", "training.optimizer.sgd.learning_rate=1e-12"]
    schedule = "training.schedule={halve_on_plateau: {patience: 1, stop_at: 0.5}}"
    summary = train_run(load_config(tiny, [*slow, schedule, "training.epochs=5"]), tmp_path / "run", Where())
    assert (summary["epochs"], summary["changes"]) == (2, [])
    summary = resume_run(tmp_path / "run", ["training.epochs=9"], Where())
    assert (summary["epochs"], summary["changes"]) == (3, ["after epoch 2, batch 0: training.epochs=9"])


def test_schedules_that_stretch_have_learned_otherwise_from_the_first_batch_on(tiny):
    for schedule, expected in (("linear", True), ("cosine", True), ("constant", False)):
        before, after = (
            load_config(tiny, [f"training.schedule={schedule}", f"training.epochs={epochs}"]) for epochs in (1, 9)
        )
        assert learns_otherwise(before, after, done=0.1) is expected
    assert not learns_otherwise(before, load_config(tiny, ["training.schedule=constant"]), done=2.0)
    assert learns_otherwise(before, load_config(tiny, ["training.schedule=constant", "training.l2=1"]), done=0.1)
    claiming = load_config(tiny, ["training.schedule=constant", "expect={test_accuracy: {at_least: 50}}"])
    assert not learns_otherwise(before, claiming, done=1.0)
