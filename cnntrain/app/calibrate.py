"""A network whose probabilities say how often it is right: the logits divided by a temperature."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from cnntrain.app.display import Display, Silent
from cnntrain.app.mistakes import likeliest
from cnntrain.app.model import Model, load_model, own_splits
from cnntrain.app.where import Where
from cnntrain.data.images import Folders, Images
from cnntrain.errors import UsageError
from cnntrain.reports.text import percent
from cnntrain.run import checkpoint
from cnntrain.training.calibration import best_temperature, calibration_error, intervals, mean_probability
from cnntrain.training.evaluate import score


def calibrate_checkpoint(path: str | Path, where: Where, display: Display | None = None) -> Path:
    """Write `calibrated.pt` beside a checkpoint: the network, with a last layer that divides logits by a temperature.

    It is the temperature that gives the validation images the smallest loss (Guo et al. 2017, section 4.2). All
    predictions stay what they are, and have other probabilities. Gives the file's path; raises `UsageError` where the
    validation images give no temperature.
    """
    display = display or Silent()
    folders = Folders.standard(where.data_dir, display)
    saved, model = checkpoint.load(Path(path)), load_model(path, where, display)
    images, test = own_splits(model, ("validation", "test"), folders, display)
    try:
        temperature = best_temperature(model.logits(images, display), torch.from_numpy(images.labels))
    except ValueError as error:
        said = f"the {len(images):,} validation images give no temperature"
        raise UsageError(f"{path}: {said}: {error}; nothing is written") from error
    display.say(f"temperature {temperature:.4g}, from {len(images):,} validation images")
    _tell(model, temperature, test, display)
    layers = [*saved.config["network"], {"scale": {"factor": 1 / temperature}}]
    calibrated = replace(saved, config={**saved.config, "network": layers}, training=None)
    file = checkpoint.file_of(path).with_name("calibrated.pt")
    checkpoint.save(file, calibrated)
    return file


def _tell(model: Model, temperature: float, test: Images, display: Display) -> None:
    """Say what it does to images that had no part in choosing it."""
    logits, labels = model.logits(test, display), torch.from_numpy(test.labels)
    for when, own in (("before", logits), ("after", logits / temperature)):
        predictions, probability = likeliest(own)
        among = intervals(probability, predictions == test.labels)
        sure, error = percent(mean_probability(among)), percent(calibration_error(among))
        loss = score(own, labels.to(own.device)).loss
        display.say(f"test, {when}: loss {loss:.4f}, mean probability {sure}, calibration error {error}")
