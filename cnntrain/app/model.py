"""A network out of a checkpoint, ready to answer, and the images that it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cnntrain.app import device as devices
from cnntrain.app.configure import edited, forgotten, import_plugins
from cnntrain.app.display import Display, Silent
from cnntrain.app.where import Where
from cnntrain.config.load import from_resolved
from cnntrain.config.schema import Config
from cnntrain.data.batches import placed
from cnntrain.data.images import Folders, Images
from cnntrain.data.preprocess import Preprocessing
from cnntrain.data.sources.pictures import Fit
from cnntrain.data.splits import split
from cnntrain.errors import CheckpointError, ConfigError, DataError, is_out_of_memory
from cnntrain.layout import moved
from cnntrain.network.build import unfilled
from cnntrain.run import checkpoint
from cnntrain.training.evaluate import logits_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

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

    def logits(self, images: Images, display: Display | None = None) -> Tensor:
        """What the network says of each image, in their order: (images, classes), on the device."""
        there = placed(images, self.preprocessing, self.device, self.config.data.memory_budget)
        progress = (display or Silent()).progress
        return logits_of(self.network, there, lambda done: progress(done, len(images), "images"))

    @property
    def fit(self) -> Fit:
        """How image files come to the network's size: as those that it was trained on."""
        source = self.config.data.source
        fit: Fit = vars(source.arguments)["fit"] if source.name in ("image_folder", "csv") else "stretch"
        return fit

    def has_changed(self, name: SplitName, images: Images) -> bool:
        """Whether a split is other images, or other labels, than when the network was trained."""
        return images.fingerprint != self.data.get(name)


def load_model(path: str | Path, where: Where, display: Display | None = None) -> Model:
    """The network of a checkpoint file, or of a run directory's best one; warns of plugins that have changed since.

    Raises `CheckpointError`.
    """
    device = devices.choose(where.device)
    imported = import_plugins(where.plugins)
    saved = checkpoint.load(Path(path))
    try:
        config = from_resolved(saved.config)
        preprocessing = Preprocessing.from_dict(saved.preprocessing)
        network = unfilled(config, preprocessing.shape, len(saved.classes))
        network.load_state_dict(saved.weights)
    except (ConfigError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        hint = forgotten(saved.plugins, where.plugins)
        raise CheckpointError(f"{path}: its weights and its config do not fit this program: {error}{hint}") from error
    change = edited(saved.plugins, imported)
    if change:
        (display or Silent()).warn(change)
    return Model(config, moved(network, device).eval(), saved.classes, preprocessing, device, saved.data)


def own_images(model: Model, name: SplitName, folders: Folders, display: Display) -> Images:
    """One split as `own_splits` gives it."""
    (images,) = own_splits(model, (name,), folders, display)
    return images


def own_splits(model: Model, names: Sequence[SplitName], folders: Folders, display: Display) -> list[Images]:
    """Splits of the data that the network was trained with, as its config finds it now.

    Raises `DataError` for other classes, whose numbers would mean other names; warns of other images, for what is
    split anew may have been trained on.
    """
    splits = split(model.config.data.source.make(folders), model.config.data)
    if list(splits.classes) != model.classes:
        raise DataError(
            f"the classes were {', '.join(model.classes)} when the network was trained, and are "
            f"{', '.join(splits.classes)} now; restore them, or evaluate other data with `cnntrain eval --data`"
        )
    found: list[Images] = [getattr(splits, name) for name in names]
    for name, images in zip(names, found, strict=True):
        if model.has_changed(name, images):
            doubt = "" if name == "train" else "; it may have been trained on some of them"
            display.warn(f"the {name} images or labels have changed since the network was trained{doubt}")
    return found
