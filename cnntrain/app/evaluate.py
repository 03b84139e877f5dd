"""How good a checkpoint is on a split of its own data, or on a data set that it never saw."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnntrain.app.display import Display, Silent
from cnntrain.app.mistakes import likeliest, mistakes
from cnntrain.app.model import Model, SplitName, load_model, own_images
from cnntrain.app.where import Where
from cnntrain.config.document import parse
from cnntrain.config.load import from_resolved, resolved
from cnntrain.config.schema import Config
from cnntrain.data.convert import CHANNELS, converted
from cnntrain.data.images import Dataset, Folders, Images
from cnntrain.errors import DataError, UsageError
from cnntrain.registry import sources
from cnntrain.reports.confusions import READABLE
from cnntrain.strict import did_you_mean
from cnntrain.text import listed
from cnntrain.training.calibration import accepted, calibration_error, intervals, mean_probability
from cnntrain.training.evaluate import score


def evaluate_checkpoint(
    path: str | Path, where: Where, data: str | None = None, split: SplitName = "test", display: Display | None = None
) -> dict[str, Any]:
    """Loss and accuracy; precision, recall and F1 by class and over all classes; the confusion matrix (rows: truth).

    `data` names another data set: a source as a config writes it, a folder of images, an `.npz`
    or a `.csv` file. Its classes are matched by name.
    """
    display = display or Silent()
    model = load_model(path, where, display)
    folders = Folders.standard(where.data_dir, display)
    if data is None:
        images = own_images(model, split, folders, display)
    else:
        dataset = _source(model, data, display).data.source.make(folders)
        images = _fitted(_part(dataset, split, display), dataset.classes, model, display)
    logits = model.logits(images, display)
    report = report_on(model.classes, images.labels, logits)
    result = score(logits, torch.from_numpy(images.labels).to(logits.device))
    figures = {"split": split, "images": len(images), "loss": result.loss, "accuracy": result.accuracy}
    return {**figures, **report, "mistakes": mistakes(model.classes, images, *likeliest(logits))}


def _source(model: Model, data: str, display: Display) -> Config:
    """The network's config with another data source; a source's name goes before a folder's."""
    # What is there is meant, and nothing of the same name in the folder of data sets.
    path = Path(data).absolute() if Path(data).exists() else Path(data)
    if data not in sources and path.is_dir():
        source: Any = {"image_folder": {"path": str(path), **_shape(model, display)}}
    elif path.suffix.lower() == ".csv":
        source = {"csv": {"path": str(path), **_shape(model, display)}}
    elif path.suffix.lower() == ".npz":
        source = {"npz": {"path": str(path)}}
    elif data not in sources and path.is_file():
        hint = f"name what reads it, as in `--data '{{nielsen_pickle: {{path: {data}}}}}'`"
        raise UsageError(f"`--data {data}`: a data set is a folder of images, an .npz or a .csv file; else {hint}")
    else:
        source = parse(data, "--data").value
        if isinstance(source, str) and source not in sources:
            said = "there is no file, folder or data source of that name"
            raise UsageError(f"`--data {data}`: {said}{did_you_mean(data, list(sources))}")
    return from_resolved({**resolved(model.config), "data": {"source": source}})


def _shape(model: Model, display: Display) -> dict[str, Any]:
    """Options that bring image files to the network's shape, exactly as `predict` does it."""
    channels, height, width = model.preprocessing.shape
    display.say(f"image files that are not {height}x{width} are resized to that, the network's input size")
    return {"size": [height, width], "channels": channels if channels in CHANNELS else 3, "fit": model.fit}


def _part(dataset: Dataset, name: SplitName, display: Display) -> Images:
    part: Images | None = getattr(dataset, name)
    if part is not None:
        return part
    if name != "test":
        raise DataError(f"the data set has no {name} split of its own")
    if dataset.validation is not None:
        raise DataError("the data set has no test split of its own; choose `--split train` or `--split validation`")
    display.say("the data set has no test split of its own: evaluating all of its images")
    return dataset.train


def _fitted(images: Images, classes: tuple[str, ...], model: Model, display: Display) -> Images:
    """Images in the network's shape, labels by its numbers for the classes of the same names."""
    unknown = [name for name in classes if name not in model.classes]
    present = {classes[label] for label in np.unique(images.labels)}
    if set(unknown) & present:
        raise DataError(
            f"the network does not know the classes {listed(unknown)}; it knows {listed(model.classes)}; "
            f"remove their images, or rename classes that the network knows by another name"
        )
    numbers = np.array([model.classes.index(name) if name in model.classes else -1 for name in classes])
    shape = model.preprocessing.shape
    pixels = images.pixels
    if shape[0] != pixels.shape[1] and not {shape[0], pixels.shape[1]} <= CHANNELS:
        raise DataError(f"images of {pixels.shape[1]} channels can't be converted to the network's {shape[0]}")
    if pixels.shape[1:] != shape:
        display.warn(f"images of shape {pixels.shape[1:]} are converted to the network's {shape}")
        pixels = converted(pixels, shape)
    return Images(pixels, numbers[images.labels], images.paths)


def report_on(classes: list[str], truth: Any, logits: torch.Tensor) -> dict[str, Any]:
    """Precision, recall and F1 by class, and the confusion matrix (rows: truth).

    Precision is 0 of a class that was never predicted, recall of one without images; where both hold there is no F1.

    Balanced accuracy is the mean recall of the classes that there are, `macro_f1` the mean F1 of those and of others
    that are predicted; F1 is 2 * precision * recall / (precision + recall). Where there are many classes,
    `top_5_accuracy` is how often the true one is among the likeliest five.

    `mean_probability` is that of the predictions, `calibration` how often the network is right, by how sure it is, and
    `calibration_error` the mean difference between these; `accepted` is what would be left, and right, if only
    predictions of a certain probability were taken.

    Counted here: a library for it takes longer to be imported than most networks to answer.
    """
    count, (predictions, probability) = len(classes), likeliest(logits)
    pairs = np.asarray(truth) * count + predictions
    confusion = np.bincount(pairs, minlength=count**2).reshape(count, count)
    right, predicted, actual = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(actual, 1)
    is_met = predicted + actual > 0
    f1 = 2 * right / np.maximum(predicted + actual, 1)
    by_class = [
        {
            "class": name,
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]) if is_met[i] else None,
            "images": int(actual[i]),
        }
        for i, name in enumerate(classes)
    ]
    over_all = {"balanced_accuracy": float(recall[actual > 0].mean()), "macro_f1": float(f1[is_met].mean())}
    if count > READABLE:
        likeliest_five = logits.topk(5).indices.cpu().numpy()
        over_all["top_5_accuracy"] = float((likeliest_five == np.asarray(truth)[:, None]).any(1).mean())
    return {
        **over_all,
        **_sureness(probability, predictions == np.asarray(truth)),
        "classes": by_class,
        "confusion_matrix": confusion.tolist(),
    }


def _sureness(probability: NDArray[np.float32], is_right: NDArray[np.bool_]) -> dict[str, Any]:
    """How far the network's probabilities can be trusted."""
    among = intervals(probability, is_right)
    return {
        "mean_probability": mean_probability(among),
        "calibration_error": calibration_error(among),
        "calibration": [asdict(one) for one in among],
        "accepted": accepted(probability, is_right),
    }
