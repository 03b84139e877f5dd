"""How good a checkpoint is on a split of its own data, or on a data set that it never saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn import functional

from cnntrain.app import device as devices
from cnntrain.app.configure import forgotten, import_plugins
from cnntrain.app.display import Display, Silent
from cnntrain.app.where import Where
from cnntrain.config.document import parse
from cnntrain.config.load import from_resolved
from cnntrain.config.schema import Config
from cnntrain.data.batches import placed
from cnntrain.data.images import Dataset, Folders, Images
from cnntrain.data.preprocess import Preprocessing, to_unit
from cnntrain.data.splits import split
from cnntrain.errors import CheckpointError, ConfigError, DataError, is_out_of_memory
from cnntrain.network.build import build
from cnntrain.registry import sources
from cnntrain.run import checkpoint
from cnntrain.training.evaluate import logits_of, score

if TYPE_CHECKING:
    from torch import nn

# Grey, RGB, RGBA.
CHANNELS = {1, 3, 4}
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Model:
    """A network from a checkpoint, ready to answer."""

    config: Config
    network: nn.Module
    classes: list[str]
    preprocessing: Preprocessing
    device: torch.device
    # SHA-256 of each split that it was trained with.
    data: dict[str, str]


def load_model(path: Path, where: Where) -> Model:
    """The network of a checkpoint file, or of a run directory's best one. Raises `CheckpointError`."""
    device = devices.choose(where.device)
    import_plugins(where.plugins)
    saved = checkpoint.load(path)
    try:
        config = from_resolved(saved.config)
        preprocessing = Preprocessing.from_dict(saved.preprocessing)
        network = build(config, preprocessing.shape, len(saved.classes))
        network.load_state_dict(saved.weights)
    except (ConfigError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        hint = forgotten(saved.plugins, where.plugins)
        raise CheckpointError(f"{path}: its weights and its config do not fit this program: {error}{hint}") from error
    return Model(config, network.to(device), saved.classes, preprocessing, device, saved.data)


def evaluate_checkpoint(
    path: Path, where: Where, data: str | None = None, name: SplitName = "test", display: Display | None = None
) -> dict[str, Any]:
    """Loss, accuracy, precision and recall by class, and the confusion matrix (rows: truth).

    `data` names another data set: a source as a config writes it, a folder of images, an `.npz`
    or a `.csv` file. Its classes are matched by name.
    """
    display = display or Silent()
    model = load_model(path, where)
    folders = Folders.standard(where.data_dir, display.progress)
    if data is None:
        images = own_images(model, name, folders, display)
    else:
        dataset = _source(model, data, display).data.source.make(folders)
        images = _fitted(_part(dataset, name, display), dataset.classes, model, display)
    feed = placed(images, model.preprocessing, model.device, model.config.data.memory_budget)
    logits = logits_of(model.network, feed)
    report = report_on(model.classes, images.labels, logits)
    result = score(logits, feed.labels)
    return {"split": name, "images": len(images), "loss": result.loss, "accuracy": result.accuracy, **report}


def own_images(model: Model, name: SplitName, folders: Folders, display: Display) -> Images:
    """A split of the data that the network was trained with, as its config finds it now.

    Raises `DataError` for other classes, whose numbers would mean other names; warns of other images, for what is
    split anew may have been trained on.
    """
    splits = split(model.config.data.source.make(folders), model.config.data)
    if list(splits.classes) != model.classes:
        raise DataError(
            f"the classes were {', '.join(model.classes)} when the network was trained, and are "
            f"{', '.join(splits.classes)} now; put them back, or evaluate other data with `cnntrain eval --data`"
        )
    images: Images = getattr(splits, name)
    if images.fingerprint != model.data.get(name):
        display.warn(
            f"the {name} images or labels are not the same as when the network was trained, which may have seen some"
        )
    return images


def _source(model: Model, data: str, display: Display) -> Config:
    """The network's config with another data source; a source's name goes before a folder's."""
    # What is there is meant, and nothing of the same name in the folder of data sets.
    path = Path(data).absolute() if Path(data).exists() else Path(data)
    if data not in sources and path.is_dir():
        source: Any = {"image_folder": {"path": str(path), **_shape(model, display)}}
    elif path.suffix == ".csv":
        source = {"csv": {"path": str(path), **_shape(model, display)}}
    elif path.suffix == ".npz":
        source = {"npz": {"path": str(path)}}
    else:
        source = parse(data, "--data").value
    network = model.config.model_dump(mode="json")["network"]
    return from_resolved({"network": network, "data": {"source": source}})


def _shape(model: Model, display: Display) -> dict[str, Any]:
    """Options that bring image files to the network's shape, exactly as `predict` does it."""
    channels, height, width = model.preprocessing.shape
    display.say(f"image files are resized where they are not {height}x{width}, the network's input")
    return {"size": [height, width], "channels": 1 if channels == 1 else 3}


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
            f"the network does not know the classes {', '.join(unknown)}; it knows {', '.join(model.classes)}"
        )
    numbers = np.array([model.classes.index(name) if name in model.classes else -1 for name in classes])
    shape = model.preprocessing.shape
    pixels = images.pixels
    if shape[0] != pixels.shape[1] and not {shape[0], pixels.shape[1]} <= CHANNELS:
        raise DataError(f"images of {pixels.shape[1]} channels can't be converted to the network's {shape[0]}")
    if pixels.shape[1:] != shape:
        display.warn(f"images of shape {pixels.shape[1:]} are converted to the network's {shape}")
        pixels = _converted(pixels, shape)
    return Images(pixels, numbers[images.labels])


def _converted(pixels: Any, shape: tuple[int, int, int]) -> Any:
    """Pixels with other channels and another size: grey by ITU-R 601 weights, size by antialiased bilinear."""
    parts = []
    for chunk in torch.split(torch.from_numpy(pixels[:]), 1000):
        images = to_unit(chunk)
        if images.shape[1] != shape[0]:
            images = _in_channels(images, shape[0])
        parts.append(functional.interpolate(images, shape[1:], mode="bilinear", antialias=True).clamp(0, 1))
    return torch.cat(parts).numpy()


def _in_channels(images: torch.Tensor, count: int) -> torch.Tensor:
    """Grey, RGB or RGBA images as one of the others; what is transparent lies on black."""
    if images.shape[1] == 4:
        images = images[:, :3] * images[:, 3:]
    if count == 1 or images.shape[1] != 3:
        images = _grey(images).expand(-1, min(count, 3), -1, -1)
    return torch.cat([images, torch.ones_like(images[:, :1])], 1) if count == 4 else images


def _grey(images: torch.Tensor) -> torch.Tensor:
    if images.shape[1] < 3:
        return images[:, :1]
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images[:, :3] * weights).sum(1, keepdim=True)


def report_on(classes: list[str], truth: Any, logits: torch.Tensor) -> dict[str, Any]:
    """Precision and recall by class, and the confusion matrix (rows: truth); 0 where a class was never said, or meant.

    Counted here: a library for it takes longer to be imported than most networks to answer.
    """
    count = len(classes)
    pairs = np.asarray(truth) * count + logits.argmax(1).cpu().numpy()
    confusion = np.bincount(pairs, minlength=count**2).reshape(count, count)
    right, said, meant = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    precision, recall = right / np.maximum(said, 1), right / np.maximum(meant, 1)
    by_class = [
        {"class": name, "precision": float(precision[i]), "recall": float(recall[i]), "images": int(meant[i])}
        for i, name in enumerate(classes)
    ]
    return {"classes": by_class, "confusion_matrix": confusion.tolist()}
