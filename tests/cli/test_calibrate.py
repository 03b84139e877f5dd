"""`cnntrain calibrate`: a checkpoint with the same predictions, and probabilities that fit the validation images."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from cnntrain.app.calibrate import calibrate_checkpoint
from cnntrain.app.display import Silent
from cnntrain.app.model import load_model, own_images
from cnntrain.app.train import train_run
from cnntrain.app.where import Where
from cnntrain.config.load import load
from cnntrain.data.images import Folders
from cnntrain.run import checkpoint

CONFIG = """
data: {source: digits, limit: 600}
network: [{fully_connected: {units: 64, activation: relu}}, softmax]
training: {epochs: 8, optimizer: {adam: {learning_rate: 0.005}}, label_smoothing: 0.3}
"""


@pytest.fixture(scope="module")
def smoothed(tmp_path_factory):
    """A run whose label smoothing makes the network less sure than it could be."""
    folder = tmp_path_factory.mktemp("smoothed")
    (folder / "c.yaml").write_text(CONFIG)
    train_run(load(folder / "c.yaml"), folder / "run", Where(device="cpu"))
    return folder / "run"


def logits_of(path, split):
    model = load_model(path, Where(device="cpu"))
    images = own_images(model, split, Folders.standard(None), Silent())
    return model.logits(images), torch.from_numpy(images.labels)


def test_the_same_predictions_with_probabilities_that_fit(cnntrain, smoothed):
    outcome = cnntrain("calibrate", smoothed)
    file = smoothed / "checkpoints" / "calibrated.pt"
    assert (outcome.code, outcome.out) == (0, f"{file}\n")
    before, after = (json.loads(cnntrain("eval", path, "--json").out) for path in (smoothed, file))
    assert after["confusion_matrix"] == before["confusion_matrix"]
    assert after["loss"] < before["loss"]
    assert after["calibration_error"] < before["calibration_error"] / 2
    said = [
        f"test, {when}: loss {one['loss']:.4f}, mean probability {one['mean_probability']:.2%}, "
        f"calibration error {one['calibration_error']:.2%}".replace("%", " %")
        for when, one in (("before", before), ("after", after))
    ]
    head, *rest = outcome.err.splitlines()
    assert rest == said
    assert head.startswith("temperature 0.") and head.endswith(", from 144 validation images")


def test_no_other_temperature_fits_better(smoothed):
    logits, labels = logits_of(calibrate_checkpoint(smoothed, Where(device="cpu")), "validation")
    least = functional.cross_entropy(logits.double(), labels)
    for factor in (0.98, 0.999, 1.001, 1.02):
        assert functional.cross_entropy(logits.double() * factor, labels) > least


def test_it_is_a_checkpoint_as_any(cnntrain, smoothed, tmp_path):
    file = calibrate_checkpoint(smoothed / "checkpoints" / "last.pt", Where(device="cpu"))
    best, saved = checkpoint.load(smoothed), checkpoint.load(file)
    assert (
        saved.training is None
        and saved.fingerprint == checkpoint.load(smoothed / "checkpoints" / "last.pt").fingerprint
    )
    assert saved.config["network"][:-1] == best.config["network"]
    assert (saved.classes, saved.data, saved.preprocessing) == (best.classes, best.data, best.preprocessing)
    Image.new("L", (8, 8), 80).save(tmp_path / "x.png")
    names = [
        json.loads(cnntrain("predict", path, tmp_path / "x.png", "--top-k", 10, "--format", "jsonl").out)["predictions"]
        for path in (smoothed / "checkpoints" / "last.pt", file)
    ]
    assert [one["class"] for one in names[0]] == [one["class"] for one in names[1]]
    assert names[0][0]["probability"] < names[1][0]["probability"]
    assert cnntrain("export", file, "--output", tmp_path / "c.safetensors").code == 0
    assert cnntrain("doctor", smoothed).code == 0
    outcome = cnntrain("train", smoothed / "config.yaml", f"init_from={file}", "--run-dir", tmp_path / "on", "-q")
    assert (outcome.code, outcome.err) == (0, "")


def test_what_is_calibrated_already_stays(cnntrain, smoothed):
    file = calibrate_checkpoint(smoothed, Where(device="cpu"))
    first = logits_of(file, "test")[0]
    assert cnntrain("calibrate", file).err.startswith("temperature 1,")
    np.testing.assert_allclose(logits_of(file, "test")[0], first, rtol=1e-4)


def turned_round(path, source):
    """A checkpoint whose network says the contrary."""
    saved = checkpoint.load(source)
    layers = [*saved.config["network"], {"scale": {"factor": -1.0}}]
    checkpoint.save(path, replace(saved, config={**saved.config, "network": layers}))


def test_images_that_give_no_temperature(cnntrain, smoothed, tmp_path):
    turned_round(tmp_path / "contrary.pt", smoothed)
    outcome = cnntrain("calibrate", tmp_path / "contrary.pt")
    assert (outcome.code, outcome.out) == (2, "")
    assert "the 144 validation images give no temperature: it knows nothing of them" in outcome.err

    train_run(load(smoothed / "config.yaml", ["data.validation=4"]), tmp_path / "few", Where(device="cpu"))
    outcome = cnntrain("calibrate", tmp_path / "few")
    assert (outcome.code, outcome.out) == (2, "")
    assert "the 4 validation images give no temperature: it classifies all of them rightly" in outcome.err
    assert not list(tmp_path.rglob("calibrated.pt"))
