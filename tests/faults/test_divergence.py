"""A value that is not finite: its layer is named, the last finite state kept, and a rollback is exact."""

import json
import os
import signal

import numpy as np
import pytest
import torch

from cnntrain import registry
from cnntrain.app.display import Silent
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.errors import Diverged, Interrupted
from cnntrain.run import checkpoint
from cnntrain.run.directory import RunDirectory
from tests.training.test_evaluate import Rows

from .cases import Row, assert_same, assert_same_runs, config_of, repeat, whole

TOO_LARGE = """
data: {source: digits, limit: 300}
network: [flatten, {dense: 16}, {scale: 1e30}, {scale: 1e30}, {dense: 10}, softmax]
training: {epochs: 1}
"""
# All outputs are 0, and the gradient is multiplied by both factors on its way back; it meets the second layer first.
STEEP_BACKWARDS = """
data: {source: digits, limit: 300}
network:
- flatten
- dense: {units: 8, init: zeros}
- dense: {units: 8, init: zeros}
- scale: 1e25
- scale: 1e25
- dense: 10
training: {epochs: 1}
"""
# The variance is too large for a float32, and what is divided by its root is 0.
TOO_WIDE = """
data: {source: digits, limit: 300}
network: [flatten, {dense: 16}, {scale: 1e21}, batch_norm, softmax]
training: {epochs: 1}
"""
# Deep and linear: what grows multiplies. It diverges at 0.5 and at 0.25, and learns at 0.125.
STEEP = """
data: {source: digits, limit: 300}
network: [flatten, {dense: 64}, {dense: 64}, {dense: 64}, {dense: 64}, softmax]
training:
  epochs: 3
  batch_size: 16
  optimizer: {sgd: {learning_rate: 0.5}}
  on_divergence: rollback
"""


def held(given, /):
    """Infinite, by weights that are not trained."""
    layer = torch.nn.Linear(*given.shape, *given.shape).requires_grad_(False)
    torch.nn.init.constant_(layer.weight, 3e38)
    return layer


class Told(Silent):
    """Keeps warnings, and interrupts at a batch, counted over all that was trained."""

    def __init__(self, interrupt_at=None):
        self.left = interrupt_at
        self.warnings = []

    def warn(self, line):
        self.warnings.append(line)

    def progress(self, done, total, what):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("text", "overrides", "first"),
    [
        (TOO_LARGE, (), "the output of layer `3_scale` in epoch 1, batch 1"),
        (STEEP, ("training.on_divergence=stop",), "the output of layer `4_dense` in epoch 1, batch 7"),
        (
            STEEP,
            ("training.on_divergence=stop", "network=[softmax]", "training.optimizer.sgd.learning_rate=1e38"),
            "the loss in epoch 1, batch 2",
        ),
        (STEEP_BACKWARDS, (), "the gradient of layer `2_dense` in epoch 1, batch 1"),
        (STEEP_BACKWARDS, ("training.clip_grad_norm=1",), "the gradient of layer `2_dense` in epoch 1, batch 1"),
        (
            TOO_WIDE,
            (),
            "weights are no longer finite in epoch 1 at or before batch 5; "
            "first to be not finite: a weight or statistic of layer `3_batch_norm` in epoch 1, batch 1",
        ),
        (TOO_WIDE, ("data.augment=[spoil]",), "an image in epoch 1, batch 1"),
        (TOO_LARGE, ("network=[flatten, held, {dense: 10}]",), "the output of layer `1_held` in epoch 1, batch 1"),
    ],
)
def test_the_first_layer_is_named(tmp_path, monkeypatch, text, overrides, first):
    monkeypatch.setattr(registry.layers, "_entries", dict(registry.layers._entries))
    registry.layers.register("held")(held)
    monkeypatch.setattr(registry.augmentations, "_entries", dict(registry.augmentations._entries))
    registry.augmentations.register("spoil")(lambda: lambda images: images / 0 - images / 0)
    with pytest.raises(Diverged, match="no checkpoint was written yet") as caught:
        train_run(config_of(text, *overrides), tmp_path / "run", Where(device="cpu"))
    assert first in str(caught.value)


def test_a_loss_is_looked_at_between_steps_that_are_taken_together(tmp_path):
    overrides = ["data={source: digits, expand: one_pixel_shifts}", "network=[softmax]", "training.batch_size=4"]
    overrides += ["training.on_divergence=stop", "training.optimizer.sgd.learning_rate=1e38"]
    with pytest.raises(Diverged, match=r"at or before batch 100; first to be not finite: .* in epoch 1, batch 2;"):
        train_run(config_of(STEEP, *overrides), tmp_path / "run", Where(device="cpu"))


def test_a_gradient_of_a_layer_that_is_updated_early_is_looked_at_too(tmp_path):
    # The second of three batches is white, and nothing is learned from the others, which are black.
    images = np.repeat(np.array([0, 255, 0], np.uint8), 16)[:, None, None] * np.ones((4, 4), np.uint8)
    parts = {f"x_{part}": images for part in ("train", "val", "test")}
    labels = {f"y_{part}": np.zeros(48, int) for part in ("train", "val", "test")}
    np.savez(tmp_path / "x.npz", **parts, **labels)
    config = (
        f"data: {{source: {{npz: {{path: {tmp_path / 'x.npz'}, classes: [a, b]}}}}}}\n"
        "network: [flatten, {dense: {units: 2, bias: false, init: zeros}}, {scale: 4e19}, {scale: 4e19}]\n"
        "training: {epochs: 1, batch_size: 16, shuffle: never, optimizer: {sgd: 1.0}}\n"
    )
    with pytest.raises(Diverged, match="first to be not finite: the gradient of layer `1_dense` in epoch 1, batch 2"):
        train_run(config_of(config), tmp_path / "run", Where(device="cpu"))


def test_parts_that_give_tuples_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.layers, "_entries", dict(registry.layers._entries))
    registry.layers.register("rows")(lambda given, /: Rows(8, 6))
    config = "data: {source: digits}\nnetwork: [rows, softmax]\ntraining: {epochs: 1, optimizer: {sgd: 1e38}}"
    with pytest.raises(Diverged, match="first to be not finite: "):
        train_run(config_of(config), tmp_path / "run", Where(device="cpu"))


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """The last update of an epoch spoils the weights after its loss was summed."""
    run = tmp_path / "run"
    config = config_of(STEEP, "training.optimizer.sgd.learning_rate=0.05", "training.epochs=2")
    train_run(config, run, Where(device="cpu"))
    overrides = ["training.epochs=3", "training.on_divergence=stop", "training.warmup_epochs=0"]
    overrides += [
        "training.schedule={multi_step: {milestones: [1], gamma: 1}}",
        "training.optimizer.sgd.learning_rate=1e38",
    ]
    before = checkpoint.load(run / "checkpoints" / "last.pt")
    with pytest.raises(Diverged, match=r"the last good state is kept in .*last\.pt"):
        resume_run(run, overrides, Where(device="cpu"))
    after = checkpoint.load(run / "checkpoints" / "last.pt")
    assert_same(before.weights, after.weights)
    assert all(tensor.isfinite().all() for tensor in after.weights.values())


def test_a_rollback_lowers_the_learning_rate_and_goes_on(tmp_path):
    told = Told()
    train_run(config_of(STEEP), tmp_path / "run", Where(device="cpu"), told)
    assert [line.rpartition("rolled back: ")[2] for line in told.warnings] == [
        "epoch 1 begins again with 0.5 times the learning rate",
        "epoch 1 begins again with 0.25 times the learning rate",
    ]
    assert all("first to be not finite: the output of layer `4_dense`" in line for line in told.warnings)
    history = checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt").training["history"]
    assert [row["learning_rate"] for row in history] == [0.125] * 3
    assert_same_runs(whole(STEEP), tmp_path / "run")
    remarks = json.loads((tmp_path / "run" / "summary.json").read_text())["remarks"]
    assert remarks == [
        "training diverged and was rolled back 2 times: its learning rate was lowered to 0.25 times the config's"
    ]


def test_a_rollback_goes_back_to_the_beginning_of_its_epoch(tmp_path):
    told = Told()
    # The learning rate rises to 0.17, to 0.33 and to 0.5, each in an epoch.
    train_run(config_of(STEEP, "training.warmup_epochs=3"), tmp_path / "run", Where(device="cpu"), told)
    assert told.warnings[0].endswith("epoch 2 begins again with 0.5 times the learning rate")
    history = checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt").training["history"]
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[0]["learning_rate"] == pytest.approx(0.5 / 3)


def test_a_cpu_looks_after_every_hundred_batches(tmp_path):
    overrides = ["training.batch_size=1", "training.warmup_epochs=1", "training.optimizer.sgd.learning_rate=3"]
    config = config_of(STEEP, "training.on_divergence=stop", *overrides)
    said = r"the loss is nan in epoch 1 at or before batch 100; first .*, batch \d\d; the learning rate was 1: lower it"
    with pytest.raises(Diverged, match=said):
        train_run(config, tmp_path / "run", Where(device="cpu"))


def interrupted(random, folder) -> None:
    """Interrupted wherever it may be, also between a divergence and what it is noticed by."""
    run = folder / "run"
    try:
        train_run(config_of(STEEP), run, Where(device="cpu"), Told(random.randrange(1, 90)))
        return
    except Interrupted:
        pass
    try:
        resume_run(run, [], Where(device="cpu"), Told(random.randrange(1, 60)))
    except Interrupted:
        resume_run(run, [], Where(device="cpu"))
    assert_same_runs(whole(STEEP), run)


@pytest.mark.parametrize("at", [3, 6, 7, 12, 19, 25, 31, 45])
def test_an_interrupted_rollback_ends_with_the_same_bits(tmp_path, at):
    with pytest.raises(Interrupted):
        train_run(config_of(STEEP), tmp_path / "run", Where(device="cpu"), Told(at))
    resume_run(tmp_path / "run", [], Where(device="cpu"))
    assert_same_runs(whole(STEEP), tmp_path / "run")


def test_rollbacks_come_to_an_end(tmp_path):
    told = Told()
    with pytest.raises(Diverged, match="though the learning rate was lowered 5 times"):
        config = config_of(STEEP, "training.optimizer.sgd.learning_rate=1e20")
        train_run(config, tmp_path / "run", Where(device="cpu"), told)
    assert len(told.warnings) == 5
    last = (tmp_path / "run" / "log.txt").read_text().splitlines()[-1]
    assert "lower it, or set `training.clip_grad_norm` or `training.warmup_epochs`" in last
    assert "on_divergence" not in last


def soak(random, deadline):
    import tempfile
    from pathlib import Path

    def case(random):
        with tempfile.TemporaryDirectory() as folder:
            interrupted(random, Path(folder))

    return repeat(case, random, deadline)


ROWS: list[Row] = [("interrupted around rollbacks", soak)]


@pytest.mark.parametrize("every", [3, 7])
def test_a_rollback_where_a_checkpoint_is_due_trains_on_the_right_images(tmp_path, every):
    told = Told()
    overrides = ["data.memory_budget=1", f"training.checkpoint_every={{steps: {every}}}"]
    train_run(config_of(STEEP, *overrides), tmp_path / "run", Where(device="cpu"), told)
    assert len(told.warnings) == 2
    one, other = (checkpoint.load(run / "checkpoints" / "last.pt") for run in (whole(STEEP), tmp_path / "run"))
    assert_same(one.weights, other.weights)


def test_a_rollback_does_not_forget_that_settings_were_changed(tmp_path):
    with pytest.raises(Interrupted):
        train_run(config_of(STEEP), tmp_path / "run", Where(device="cpu"), Told(3))
    told = Told()
    summary = resume_run(tmp_path / "run", ["training.l2=0.001"], Where(device="cpu"), told)
    assert told.warnings
    assert summary["changes"] == ["after epoch 0, batch 3: training.l2=0.001"]


def test_after_a_rollback_checkpoints_are_due_as_before(tmp_path, monkeypatch):
    steps, save = [], RunDirectory.save_last

    def noted(directory, content):
        steps.append(content.training["step"])
        save(directory, content)

    monkeypatch.setattr(RunDirectory, "save_last", noted)
    told = Told()
    train_run(config_of(STEEP, "training.checkpoint_every={steps: 7}"), tmp_path / "run", Where(device="cpu"), told)
    assert told.warnings
    # The end of an epoch comes before seven steps are over; a rollback, back to where the epoch began, too.
    gaps = [after - before for before, after in zip([0, *steps], steps, strict=False)]
    assert max(gaps) <= 7


# The loss of one batch before each update is finite, and after the last there is none.
ONE_STEP = """
data: {source: digits}
network: [flatten, {dense: 16}, {dense: 16}, softmax]
training: {epochs: 1, batch_size: 2000, optimizer: {sgd: {learning_rate: 1e30}}}
"""


def test_a_loss_at_the_end_of_an_epoch_that_is_not_finite(tmp_path):
    said = r"the loss of the training images is (nan|inf) at the end of epoch 1; the learning rate was 1e\+30: lower it"
    with pytest.raises(Diverged, match=said):
        train_run(config_of(ONE_STEP), tmp_path / "run", Where(device="cpu"))
    assert not (tmp_path / "run" / "summary.json").exists()
    told = Told()
    with pytest.raises(Diverged, match="though the learning rate was lowered 5 times"):
        train_run(config_of(ONE_STEP, "training.on_divergence=rollback"), tmp_path / "other", Where(device="cpu"), told)
    assert len(told.warnings) == 5
