"""`cnntrain train` as a person and as a script would use it."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from cnntrain.app.configure import load_config
from cnntrain.run import checkpoint


def test_leaves_a_whole_run_directory(trained):
    names = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "metrics.csv",
        "summary.json",
        "log.txt",
        "checkpoints/best.pt",
        "checkpoints/last.pt",
    } <= names
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["stopped"] == "all 3 epochs are done"
    assert summary["best"]["test_accuracy"] > 0.5
    assert load_config(trained / "config.yaml").training.epochs == 3


def test_test_accuracy_is_read_only_where_validation_is_best(trained):
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = -1.0
    for row in rows:
        is_best = float(row["validation_accuracy"]) >= best
        assert (row["best"] == "true") == is_best == bool(row["test_accuracy"])
        best = max(best, float(row["validation_accuracy"]))


def test_result_on_stdout_and_all_else_on_stderr(cnntrain, tiny):
    outcome = cnntrain("train", tiny, "training.epochs=1", "--run-dir", tiny.parent / "run")
    assert (outcome.code, outcome.out) == (0, f"{tiny.parent / 'run'}\n")
    assert "epoch 1/1" in outcome.err
    assert "images/s" in outcome.err
    assert "\x1b" not in outcome.err


def test_quiet_and_json(cnntrain, tiny):
    outcome = cnntrain("train", tiny, "training.epochs=1", "--run-dir", tiny.parent / "run", "--quiet", "--json")
    assert outcome.err == ""
    assert json.loads(outcome.out)["epochs"] == 1


def test_log_is_what_the_terminal_said(cnntrain, tiny):
    outcome = cnntrain("train", tiny, "training.epochs=1", "--run-dir", tiny.parent / "run")
    log = (tiny.parent / "run" / "log.txt").read_text()
    assert log.splitlines() == outcome.err.splitlines()


def test_an_existing_run_directory_is_refused_and_untouched(cnntrain, tiny, trained):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    outcome = cnntrain("train", tiny, "--run-dir", trained)
    assert outcome.code == 2
    assert "--resume" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_a_loss_that_is_not_finite(cnntrain, tiny):
    run = tiny.parent / "run"
    outcome = cnntrain("train", tiny, "training.epochs=1", "--run-dir", run)
    assert outcome.code == 0
    kept = checkpoint.load(run / "checkpoints" / "last.pt")
    overrides = ["training.epochs=4", "training.optimizer.sgd.learning_rate=1e30", "training.schedule=constant"]
    outcome = cnntrain("train", "--resume", run, *overrides)
    assert outcome.code == 1
    assert "the loss is" in outcome.err
    assert "clip_grad_norm" in outcome.err
    assert str(run / "checkpoints" / "last.pt") in outcome.err
    last = checkpoint.load(run / "checkpoints" / "last.pt")
    assert last.training["epoch"] == kept.training["epoch"] == 1
    assert all(torch.equal(last.weights[name], value) for name, value in kept.weights.items())


def test_early_stopping_says_why(cnntrain, tiny):
    overrides = ["training.optimizer.sgd.learning_rate=1e-9", "training.epochs=50"]
    outcome = cnntrain(
        "train", tiny, *overrides, "training.early_stopping={patience: 2}", "--run-dir", tiny.parent / "run", "--json"
    )
    summary = json.loads(outcome.out)
    assert summary["stopped"] == "validation accuracy has not improved for 2 epochs"
    assert summary["epochs"] < 50


def test_nothing_given(cnntrain):
    outcome = cnntrain("train")
    assert outcome.code == 2
    assert "--resume" in outcome.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits_with_130(tiny, number):
    run = tiny.parent / "run"
    command = [sys.executable, "-m", "cnntrain", "train", str(tiny), "training.epochs=10000", "--run-dir", str(run)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (run / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"cnntrain train --resume {run}" in err
    assert out == ""
    assert "Traceback" not in err
