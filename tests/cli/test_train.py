"""`cnntrain train` as a person and as a script would use it."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import fields, replace
from datetime import datetime

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.preparation import prepared
from cnntrain.app.train import train_run
from cnntrain.app.where import Where
from cnntrain.reports.text import epoch_line
from cnntrain.run import checkpoint
from cnntrain.training.distributed import Ranks
from cnntrain.training.rows import EpochResult


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
    assert summary["seconds"] == pytest.approx(sum(float(row["seconds"]) for row in rows))
    assert summary["images"] == {"train": 1294, "validation": 144, "test": 359}
    # Weights and biases of 8 filters of 3x3, of batch_norm, of 32 units after 8 maps of 3x3, and of 10 classes.
    assert summary["parameters"] == 8 * 10 + 2 * 8 + 32 * (72 + 1) + 10 * (32 + 1)
    best = next(row for row in reversed(rows) if row["best"] == "true")
    assert summary["best"]["epoch"] == int(best["epoch"]) and summary["last"]["epoch"] == 3
    figures = [f"{100 * float(best[name]):.2f} %" for name in ("validation_accuracy", "test_accuracy")]
    *_, said, judged = (trained / "log.txt").read_text().splitlines()
    assert said == (
        f"all 3 epochs are done; best validation accuracy {figures[0]} in epoch {best['epoch']}, "
        f"test accuracy there {figures[1]}"
    )
    assert judged == summary["verdict"]["text"]
    assert load_config(trained / "config.yaml").training.epochs == 3


def test_test_accuracy_is_read_only_where_validation_is_best(trained):
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = -1.0
    for row in rows:
        is_best = float(row["validation_accuracy"]) >= best
        assert (row["best"] == "true") == is_best == bool(row["test_accuracy"])
        best = max(best, float(row["validation_accuracy"]))


def test_an_epoch_is_told_in_its_figures(trained):
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [line for line in (trained / "log.txt").read_text().splitlines() if line.startswith("epoch ")]
    for line, row in zip(lines, rows, strict=True):
        figures = {name: float(value) for name, value in row.items() if value and name != "best"}
        words = ["epoch", f"{row['epoch']}/3"]
        for name in ("train", "validation"):
            words += [name, f"{figures[f'{name}_loss']:.4f}", f"{100 * figures[f'{name}_accuracy']:.2f}", "%"]
        words += ["test", f"{100 * figures['test_accuracy']:.2f}", "%"] if row["test_accuracy"] else []
        words += ["lr", f"{figures['learning_rate']:.3g}", f"{figures['images_per_second']:,.0f}", "images/s"]
        assert line.split() == words


def test_an_epoch_without_a_right_answer_is_told_too():
    result = EpochResult(**{one.name: 0 for one in fields(EpochResult)})
    assert "test   0.00 %" in epoch_line(result, 10, "validation_accuracy")
    assert epoch_line(replace(result, test_accuracy=None), 10, "validation_accuracy").startswith(
        "epoch  0/10  train 0.0000   0.00 %  validation 0.0000   0.00 %                 lr 0       "
    )


def test_a_run_is_introduced(cnntrain, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 6, 3), np.uint8)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "x.npz", x_train=images[:30], y_train=labels[:30], x_test=images[20:], y_test=labels[20:])
    (tmp_path / "c.yaml").write_text(
        f"data: {{source: {{npz: {tmp_path / 'x.npz'}}}, validation: 4}}\nnetwork: [softmax]\ntraining: {{epochs: 1}}\n"
    )
    outcome = cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "run", "--device", "cpu")
    lines = outcome.err.splitlines()
    assert lines[0] == f"run directory: {tmp_path / 'run'}"
    assert lines[1].startswith("26 training, 4 validation, 20 test images of 4x6x3 in 2 classes; 146 parameters; cpu (")
    assert lines[2] == "warning: 6 test images are also among the training images"
    first, beginning, *others = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert [first, *others] == lines
    at, _, what = beginning.partition(": ")
    assert datetime.fromisoformat(at) <= datetime.now().astimezone()
    assert what.startswith(f"process {os.getpid()} on {socket.gethostname()}, cnntrain ")
    assert f", torch {torch.__version__}, commit of this folder " in what
    assert what.endswith(f": cnntrain train {tmp_path / 'c.yaml'} --run-dir {tmp_path / 'run'} --device cpu")


def test_one_class_is_nothing_to_tell_apart(cnntrain, tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((20, 4, 4), np.uint8), labels=np.zeros(20, np.int64))
    config = tmp_path / "c.yaml"
    config.write_text(f"data:\n  source: {{npz: {tmp_path / 'x.npz'}}}\nnetwork: [softmax]\n")
    outcome = cnntrain("train", config, "--run-dir", tmp_path / "run")
    assert (outcome.code, (tmp_path / "run").exists()) == (2, False)
    assert f"error: {config}:2:3: all images are of one class, 0: there is nothing to tell apart" in outcome.err


def test_a_rare_class_is_learned_from_balanced_epochs(cnntrain, rare, tmp_path):
    # Always saying the other is right more often.
    (tmp_path / "c.yaml").write_text(
        f"data: {{source: {{npz: {rare}}}, normalize: true}}\nnetwork: [softmax]\n"
        "training: {epochs: 20, optimizer: {sgd: {learning_rate: 0.1}}, schedule: cosine}"
    )
    advice = "as the classes differ greatly in size, try `training.shuffle"
    told = f"no test image is classified as 1, though 12 should be; {advice}"
    outcome = cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "run")
    assert outcome.code == 0 and told in outcome.err
    shown = told.replace("`", "<code>")
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"N{shown[1:]}: balanced</code>, or more images of these.</li>" in page
    outcome = cnntrain("train", tmp_path / "c.yaml", "training.shuffle=balanced", "--run-dir", tmp_path / "balanced")
    assert outcome.code == 0 and "is classified as" not in outcome.err
    report = json.loads(cnntrain("eval", tmp_path / "balanced", "--json").out)
    assert min(row["recall"] for row in report["classes"]) > 0.5
    monitored = (
        "training.monitor=validation_balanced_accuracy",
        "training.optimizer.sgd.learning_rate=1e-300",
        "init=book",
    )
    balanced = ("training.shuffle=balanced", "training.epochs=1", *monitored)
    outcome = cnntrain("train", tmp_path / "c.yaml", *balanced, "--run-dir", tmp_path / "monitored")
    assert "warning: only 5 validation images are of 1: each is 10.0 points of balanced accuracy\n" in outcome.err
    # What is there already is no advice.
    assert "; as the classes differ greatly in size, try more images of these\n" in outcome.err


def test_what_is_monitored_is_told(cnntrain, tiny, tmp_path):
    for monitor in ("validation_balanced_accuracy", "validation_loss"):
        early = "training.early_stopping={patience: 1, min_delta: 5}"
        settings = ("training.epochs=2", f"training.monitor={monitor}", early)
        outcome = cnntrain("train", tiny, *settings, "--run-dir", tmp_path / monitor, "--json")
        best, words = json.loads(outcome.out)["best"], monitor.replace("_", " ")
        value = best[monitor]
        figure = f"{value:.4f}" if monitor == "validation_loss" else f"{100 * value:.2f} %"
        tested = "test_balanced_accuracy" if "balanced" in monitor else "test_accuracy"
        end = f"{tested.replace('_', ' ')} there {100 * best[tested]:.2f} %\n"
        assert f", {end}" in outcome.err
        assert (
            f"{words} has not improved by more than 5 for 1 epoch; best {words} {figure} in epoch {best['epoch']}, "
            in outcome.err
        )
        balanced = re.findall(r" %  balanced +(\S+) %  ", outcome.err)
        with (tmp_path / monitor / "metrics.csv").open(newline="") as rows:
            known = [f"{100 * float(row['validation_balanced_accuracy']):.2f}" for row in csv.DictReader(rows)]
        assert balanced == (known if "balanced" in monitor else []) and len(known) == 2


def test_an_expanded_set_is_told_of(cnntrain, tiny, tmp_path):
    run = tmp_path / "run"
    outcome = cnntrain("train", tiny, "data.expand=one_pixel_shifts", "training.epochs=1", "--run-dir", run)
    assert "1,294 (expanded to 6,470) training, 144 validation, 359 test images" in outcome.err
    assert json.loads((run / "summary.json").read_text())["images"]["expanded"] == 6470
    assert "1,294, expanded to 6,470 / 144 / 359" in (run / "report.html").read_text()


def test_progress_is_told_over_all_epochs(tiny, tmp_path):
    class Heard(Silent):
        def progress(self, done, total, what):
            heard.append((done, total, what))

    heard = []
    train_run(load_config(tiny, ["training.epochs=2"]), tmp_path / "run", Where(device="cpu"), Heard())
    counts = [done for done, _, _ in heard]
    assert counts == sorted(counts) and counts[-2:] == [81, 82]
    assert {(total, what) for done, total, what in heard if done < 41} == {(82, "epoch 1/2")}
    assert {(total, what) for done, total, what in heard if done == 41} == {(82, "epoch 1/2, evaluation")}
    assert {(total, what) for done, total, what in heard if 41 < done < 81} == {(82, "epoch 2/2")}
    # The last batch is not done before its epoch is evaluated, so that the bar stays for as long.
    late = [what for done, _, what in heard if done >= 81]
    assert late == ["epoch 2/2"] + 3 * ["epoch 2/2, evaluation"] + ["all epochs"]


def test_result_on_stdout_and_all_else_on_stderr(cnntrain, tiny):
    outcome = cnntrain("train", tiny, "training.epochs=1", "--run-dir", tiny.parent / "run")
    assert (outcome.code, outcome.out) == (0, f"{tiny.parent / 'run'}\n")
    assert "epoch 1/1" in outcome.err
    assert "images/s" in outcome.err
    assert "\x1b" not in outcome.err


def test_quiet_and_json(cnntrain, tiny):
    run = tiny.parent / "run"
    outcome = cnntrain("train", tiny, "training.epochs=1", "seed=7", "--run-dir", run, "--quiet", "--json")
    assert outcome.err == ""
    summary = json.loads(outcome.out)
    assert (summary["run_dir"], summary["epochs"], summary["seed"]) == (str(run), 1, 7)


def test_log_is_what_the_terminal_said(cnntrain, tiny):
    outcome = cnntrain("train", tiny, "training.epochs=1", "--run-dir", tiny.parent / "run")
    log = (tiny.parent / "run" / "log.txt").read_text()
    first, beginning, *others = log.splitlines()
    assert [first, *others] == outcome.err.splitlines()
    assert ": process " in beginning


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


def test_a_last_batch_of_one_image_that_batch_norm_can_not_take(cnntrain, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(
        "data: {source: digits, limit: 101}\n"
        "network: [{conv: {filters: 4}}, global_avg_pool, batch_norm, softmax]\n"
        "training: {epochs: 1, batch_size: 50}\n"
    )
    outcome = cnntrain("train", config, "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert "c.yaml:3:" in outcome.err
    assert "with 101 images, the last batch has one, and `batch_norm` can't compute a variance from one" in outcome.err
    assert not (tmp_path / "run").exists()
    assert cnntrain("train", config, "training.batch_size=1", "--run-dir", tmp_path / "run").code == 2
    for override in ("training.batch_size=49", "data.limit=100"):
        assert cnntrain("train", config, override, "--run-dir", tmp_path / override).code == 0


def test_runs_of_one_config_in_one_second_get_a_folder_each(cnntrain, tiny, tmp_path, monkeypatch):
    from cnntrain.run import directory

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(directory, "default_path", lambda name: tmp_path / "runs" / name / "now")
    for _ in range(2):
        assert cnntrain("train", tiny, "training.epochs=1").code == 0
    assert sorted(path.name for path in (tmp_path / "runs" / "tiny").iterdir()) == ["now", "now-2"]


def test_the_expanded_set_is_what_is_trained_on_and_nothing_else(tiny):
    where, alone = Where(device="cpu"), Ranks(torch.device("cpu"))
    plain, expanded = (
        prepared(load_config(tiny, overrides), where, alone, Silent()).plan
        for overrides in ([], ["data.expand=one_pixel_shifts"])
    )
    counts = [
        [len(part) for part in (plan.feeds.train, plan.feeds.sample, plan.feeds.validation, plan.feeds.test)]
        for plan in (plain, expanded)
    ]
    assert counts == [[1294, 144, 144, 359], [5 * 1294, 144, 144, 359]]
    assert (plain.batches, expanded.batches) == (41, 203)


def test_the_training_images_that_are_looked_at_are_of_all_classes(cnntrain, tmp_path):
    digits = load_digits()
    order = np.argsort(digits.target, kind="stable")
    images, labels = digits.images[order].astype(np.uint8), digits.target[order]
    np.savez(
        tmp_path / "sorted.npz",
        x_train=images[::2], y_train=labels[::2], x_val=images[1::8], y_val=labels[1::8],
        x_test=images[3::8], y_test=labels[3::8],
    )  # fmt: skip
    config = tmp_path / "c.yaml"
    config.write_text("data: {source: {npz: {path: sorted.npz}}}\nnetwork: [softmax]\ntraining: {epochs: 1}\n")
    given = prepared(load_config(config), Where(data_dir=tmp_path, device="cpu"), Ranks(torch.device("cpu")), Silent())
    sample = given.plan.feeds.sample.labels
    assert len(sample) == len(given.splits.validation)
    assert len(sample.unique()) == 10
    other = load_config(config, ["seed=1"])
    given = prepared(other, Where(data_dir=tmp_path, device="cpu"), Ranks(torch.device("cpu")), Silent())
    assert not torch.equal(given.plan.feeds.sample.labels, sample)
