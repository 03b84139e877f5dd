"""A run that goes on with other settings keeps what it learned, and ends as those settings say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnntrain.app.configure import load_config
from cnntrain.app.evaluate import evaluate_checkpoint
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.errors import DataError, Interrupted, UsageError
from cnntrain.run import checkpoint
from tests.faults.cases import assert_same, rows
from tests.faults.test_divergence import STEEP, Told, config_of
from tests.training.test_resume import InterruptAt

# A decay this strong empties the network, so that no epoch after it can be the best.
EMPTYING = ["training.l2=300", "training.schedule=constant"]
STOPPING = "training.early_stopping={patience: 9, restore_best: true}"


def saved(run, name="last"):
    return checkpoint.load(run / "checkpoints" / f"{name}.pt")


def content(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "log.txt"}


@pytest.mark.parametrize("override", ["training.early_stopping=null", "training.early_stopping.restore_best=false"])
@pytest.mark.parametrize("epochs", [3, 5])
def test_who_no_longer_ends_with_the_best_weights_keeps_the_last(override, epochs, tiny, tmp_path):
    run = tmp_path / "run"
    # No gain is larger than 1, so that it stops after two epochs.
    stopping = "training.early_stopping={patience: 1, min_delta: 1.0, restore_best: true}"
    train_run(load_config(tiny, ["training.schedule=constant", stopping]), run, Where())
    more = ["training.early_stopping.patience=9"] if "restore_best" in override else []
    summary = resume_run(run, [override, *more, f"training.epochs={epochs}"], Where())
    assert summary["epochs"] == epochs
    assert saved(run).training["best_weights"] == {}
    assert evaluate_checkpoint(run / "checkpoints" / "best.pt", Where())["accuracy"] == summary["best"]["test_accuracy"]
    last = evaluate_checkpoint(run / "checkpoints" / "last.pt", Where(), split="validation")
    assert last["accuracy"] == summary["last"]["validation_accuracy"]


@pytest.mark.parametrize("emptied", [[], EMPTYING])
def test_who_is_to_end_with_the_best_weights_from_now_on_does(emptied, tiny, tmp_path):
    run = tmp_path / "run"
    train_run(load_config(tiny, ["training.epochs=2"]), run, Where())
    if emptied:
        # So that the best epoch is not the last, and only `best.pt` still has its weights.
        resume_run(run, [*emptied, "training.epochs=3"], Where())
    summary = resume_run(run, [*EMPTYING, STOPPING, "training.epochs=4"], Where())
    assert summary["best"]["epoch"] <= 2
    assert_same(saved(run).weights, saved(run, "best").weights)
    # Who had not stopped would go on from the last epoch's weights.
    summary = resume_run(run, ["training.epochs=5"], Where())
    assert summary["changes"][-1] == "after epoch 4, batch 0: training.epochs=5"


def test_who_stopped_with_the_best_weights_in_the_best_epoch_goes_on_as_if_it_had_not(tiny, tmp_path):
    run = tmp_path / "run"
    train_run(load_config(tiny, ["training.epochs=1", "training.schedule=constant", STOPPING]), run, Where())
    assert resume_run(run, ["training.epochs=2"], Where())["changes"] == []


@pytest.mark.parametrize(
    "spoil", [lambda best: best.unlink(), lambda best: shutil.copy(best.with_name("last.pt"), best)]
)
def test_best_weights_that_are_gone_are_asked_for_before_anything_is_written(spoil, tiny, tmp_path):
    run = tmp_path / "run"
    train_run(load_config(tiny, ["training.epochs=1"]), run, Where())
    resume_run(run, [*EMPTYING, "training.epochs=2"], Where())
    spoil(run / "checkpoints" / "best.pt")
    before = content(run)
    with pytest.raises(UsageError, match=r"best\.pt: is damaged, missing, or not of epoch 1, .*without `restore_best`"):
        resume_run(run, [STOPPING, "training.epochs=3"], Where())
    assert content(run) == before


@pytest.mark.parametrize("known", [True, False])
def test_best_weights_that_the_state_has_need_no_best_checkpoint(known, tiny, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        # In the second epoch the first one's weights are kept apart; at the end of the first they are the network's.
        at = InterruptAt(55 if known else "epoch 1/")
        train_run(load_config(tiny, [STOPPING] if known else []), run, Where(), at)
    (run / "checkpoints" / "best.pt").unlink()
    assert resume_run(run, [] if known else [STOPPING], Where())["epochs"] == 3


def test_a_rollback_does_not_bring_old_best_weights_back(tmp_path):
    run, slow = tmp_path / "run", ["training.optimizer.sgd.learning_rate=0.1", STOPPING]
    with pytest.raises(Interrupted):
        # In the second epoch: the state that a rollback goes back to is within the checkpoint.
        train_run(config_of(STEEP, *slow), run, Where(device="cpu"), Told(24))
    assert saved(run).training["anchor"]["best_weights"]
    told = Told()
    resume_run(run, ["training.optimizer.sgd.learning_rate=4", "training.early_stopping=null"], Where("cpu"), told)
    assert told.warnings
    assert saved(run).training["best_weights"] == {}


@pytest.mark.parametrize(
    ("at", "epochs", "said"),
    [
        (None, 2, "epoch 3 is done already; set `training.epochs` to 3 at least"),
        (55, 1, "epoch 2 has begun already; set `training.epochs` to 2 at least"),
    ],
)
def test_fewer_epochs_than_were_begun_are_refused(at, epochs, said, tiny, tmp_path):
    run = tmp_path / "run"
    if at:
        with pytest.raises(Interrupted):
            train_run(load_config(tiny), run, Where(), InterruptAt(at))
    else:
        train_run(load_config(tiny), run, Where())
    before = content(run)
    with pytest.raises(UsageError, match=said):
        resume_run(run, [f"training.epochs={epochs}"], Where())
    assert content(run) == before


@pytest.mark.parametrize("stopping", [[], [STOPPING]])
def test_a_run_can_be_ended_where_it_is(stopping, tiny, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train_run(load_config(tiny, stopping), run, Where(), InterruptAt("epoch 2/"))
    before = saved(run)
    assert not before.training["stopped"]
    assert not (run / "summary.json").exists()
    summary = resume_run(run, ["training.epochs=2"], Where())
    assert (summary["epochs"], summary["stopped"]) == (2, "all 2 epochs are done")
    assert saved(run).training["stopped"] == "all 2 epochs are done"
    assert json.loads((run / "summary.json").read_text())["epochs"] == 2
    assert len(rows(run)) == 2
    assert_same(saved(run).weights, saved(run, "best").weights if stopping else before.weights)


def test_momentum_may_be_switched_on(tiny, tmp_path):
    run = tmp_path / "run"
    rmsprop = "training.optimizer={rmsprop: {learning_rate: 0.001}}"
    train_run(load_config(tiny, [rmsprop, "training.epochs=1"]), run, Where())
    resume_run(run, ["training.optimizer.rmsprop.momentum=0.5", "training.epochs=2"], Where())
    moments = saved(run).training["optimizer"]["state"]
    assert all(state["momentum_buffer"].abs().sum() > 0 for state in moments.values())


def test_a_finished_run_keeps_the_settings_that_it_was_trained_with(tiny, tmp_path):
    run = tmp_path / "run"
    train_run(load_config(tiny, ["training.epochs=2"]), run, Where())
    before = content(run)
    with pytest.raises(UsageError, match=rf"^{run}: nothing is left to be trained with training\.l2=9$"):
        resume_run(run, ["training.l2=9"], Where())
    assert content(run) == before
    assert resume_run(run, ["training.epochs=2"], Where())["changes"] == []
    assert resume_run(run, ["training.l2=9", "training.epochs=3"], Where())["epochs"] == 3


@pytest.mark.parametrize("same", ["training.epochs=9", "training.checkpoint_every={steps: 9}"])
def test_a_run_that_stopped_early_does_not_go_on_for_what_changes_nothing(same, tiny, tmp_path):
    run = tmp_path / "run"
    stopping = "training.early_stopping={patience: 1, min_delta: 0.9}"
    summary = train_run(load_config(tiny, ["training.epochs=9", stopping]), run, Where())
    again = resume_run(run, [same], Where())
    assert again["epochs"] == summary["epochs"] == 2
    assert again["changes"] == []


def test_going_on_with_nothing_to_mend_writes_no_checkpoint(tiny, tmp_path):
    run = tmp_path / "run"
    train_run(load_config(tiny, ["training.epochs=2"]), run, Where())
    files = [run / "checkpoints" / f"{name}.pt" for name in ("last", "previous", "best")]
    before = [file.read_bytes() for file in files]
    resume_run(run, [], Where())
    assert [file.read_bytes() for file in files] == before


def test_who_goes_on_is_warned_of_a_config_edited_by_hand_and_of_nothing_else(tiny, tmp_path):
    run = tmp_path / "run"
    train_run(load_config(tiny, ["training.epochs=1"]), run, Where())
    path, hand, own = run / "config.yaml", Told(), Told()
    path.write_text(path.read_text().replace("epochs: 1", "epochs: 7"))
    resume_run(run, [], Where(), hand)
    assert hand.warnings == [f"{path} differed from the checkpoint's config; it is rewritten from the checkpoint"]
    # The second time the best epoch is not the last.
    for epochs in (2, 3):
        resume_run(run, [*EMPTYING, f"training.epochs={epochs}"], Where(), own)
    assert own.warnings == []


def test_a_refused_change_leaves_the_last_checkpoint(tiny, tmp_path):
    run = tmp_path / "run"
    train_run(load_config(tiny, ["training.epochs=2"]), run, Where())
    resume_run(run, [*EMPTYING, "training.epochs=3"], Where())
    # As if the third epoch were the best, and the state before it not.
    files = {name: saved(run, name) for name in ("previous", "best")}
    files["previous"].training["history"][-1]["best"] = False
    files["best"].result["epoch"] = 3
    for name, file in files.items():
        checkpoint.save(run / "checkpoints" / f"{name}.pt", file)
    before = content(run)
    with pytest.raises(UsageError, match="later than the state to resume from; resume without changes first"):
        resume_run(run / "checkpoints" / "previous.pt", ["training.l2=0.1"], Where())
    assert content(run) == before


@pytest.mark.parametrize("name", ["last.pt", "previous.pt"])
def test_a_checkpoint_is_resumed_from_its_own_folder(tiny, tmp_path, monkeypatch, name):
    train_run(load_config(tiny, ["training.epochs=2"]), tmp_path / "run", Where())
    monkeypatch.chdir(tmp_path / "run" / "checkpoints")
    summary = resume_run(Path(name), ["training.epochs=3"], Where())
    assert (summary["epochs"], summary["run_dir"]) == (3, str(tmp_path / "run"))
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert resume_run(Path("../run/checkpoints/last.pt"), [], Where())["run_dir"] == str(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert resume_run(Path("run/checkpoints/last.pt"), [], Where())["run_dir"] == "run"


def test_an_epoch_begun_again_on_other_data_is_not_taken_for_the_best(tmp_path):
    run, folder = tmp_path / "run", tmp_path / "data"
    folder.mkdir()
    config = tmp_path / "c.yaml"
    config.write_text(
        f"data: {{source: {{npz: {{path: {folder / 'a.npz'}}}}}}}\n"
        "network: [softmax]\n"
        "training: {epochs: 2, batch_size: 10}\n"
    )
    write_images(folder / "a.npz", seed=0)
    with pytest.raises(Interrupted):
        # After the first epoch, which is the best, and some batches.
        train_run(load_config(config), run, Where(), InterruptAt(12))
    assert saved(run).training["batch"] > 0
    write_images(folder / "a.npz", seed=1)
    (run / "checkpoints" / "best.pt").unlink()
    with pytest.raises(DataError, match="--force"):
        resume_run(run, [], Where())
    told = Told(interrupt_at=1)
    with pytest.raises(Interrupted):
        resume_run(run, [], Where(), told, force=True)
    assert not (run / "checkpoints" / "best.pt").exists()
    assert any("best.pt is damaged or missing" in line for line in told.warnings)


def write_images(path, seed):
    drawn = np.random.default_rng(seed)
    images = drawn.integers(0, 256, (100, 4, 4), dtype=np.uint8)
    np.savez(path, x_train=images, y_train=np.arange(100) % 2, x_test=images[:10], y_test=np.arange(10) % 2)


def test_a_run_of_before_balanced_accuracy_goes_on(tiny, tmp_path):
    run, last = tmp_path / "run", tmp_path / "run" / "checkpoints" / "last.pt"
    train_run(load_config(tiny, ["training.epochs=2"]), run, Where("cpu"))
    known = checkpoint.load(last)
    history = [
        {name: value for name, value in row.items() if name != "validation_balanced_accuracy"}
        for row in known.training["history"]
    ]
    older = {**known.training, "history": history, "best_accuracy": history[-1]["validation_accuracy"]}
    training = {name: value for name, value in known.config["training"].items() if name != "monitor"}
    checkpoint.save(last, replace(known, config={**known.config, "training": training}, training=older))
    resume_run(run, ["training.epochs=3"], Where("cpu"))
    first, *_, third = rows(run)
    assert (first["validation_balanced_accuracy"], first["best"]) == ("", "true")
    assert 0.5 < float(third["validation_balanced_accuracy"]) < 1
