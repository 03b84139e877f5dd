"""From a config to everything that training needs: data in its place, a network, the state to begin with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cnntrain.app.configure import import_plugins
from cnntrain.app.initial import initial
from cnntrain.config.schema import Config
from cnntrain.data.batches import Resident, Shifted, Streamed, derived_seed, exceeds
from cnntrain.data.cache import spilled
from cnntrain.data.images import Dataset, Folders, Images
from cnntrain.data.preprocess import Preprocessing
from cnntrain.data.splits import Splits, split
from cnntrain.training.plan import Feeds, Plan, prepare
from cnntrain.training.state import State

if TYPE_CHECKING:
    from cnntrain.app.display import Display
    from cnntrain.app.where import Where
    from cnntrain.training.distributed import Ranks


@dataclass(frozen=True)
class Prepared:
    """A network and its data, before the first step."""

    config: Config
    splits: Splits
    preprocessing: Preprocessing
    plan: Plan
    state: State
    plugins: dict[str, str]
    is_streamed: bool
    # Bytes that all images take in memory, before they are split.
    nbytes: int


def prepared(
    config: Config, where: Where, ranks: Ranks, display: Display, preprocessing: Preprocessing | None = None
) -> Prepared:
    """Read and split the data, and build the network; `preprocessing` that is known is taken as it is."""
    plugins = import_plugins(where.plugins)
    folders = Folders.standard(where.data_dir, display)
    dataset = config.data.source.make(folders)
    is_streamed = exceeds(dataset.nbytes, ranks.device, config.data.memory_budget)
    if is_streamed:
        dataset = _on_disk(dataset, folders)
    splits = _trainable(split(dataset, config.data), config)
    preprocessing = preprocessing or Preprocessing.of(splits.train, config.data.normalize)
    network = initial(config, splits, preprocessing, ranks.device)
    place = Streamed if is_streamed else Resident

    def on_device(images: Images) -> Resident:
        return place.of(images, preprocessing, ranks.device)

    def part(images: Images) -> Resident:
        return on_device(images.take(ranks.part(len(images))))

    train = on_device(splits.train)
    feeds = Feeds(
        Shifted.around(train) if config.data.expand else train,
        part(_sample(splits, config.seed)),
        part(splits.validation),
        part(splits.test),
    )
    plan, state = prepare(config, network, len(splits.classes), feeds, ranks)
    return Prepared(config, splits, preprocessing, plan, state, plugins, is_streamed, dataset.nbytes)


def _trainable(splits: Splits, config: Config) -> Splits:
    """The same without the paths of training images, which nobody asks for while they take memory.

    Raises `ConfigError` where there is nothing to tell apart.
    """
    if len(splits.classes) == 1:
        said = f"all images are of one class, {splits.classes[0]}: there is nothing to tell apart"
        hint = "for image files, name the folder that contains one folder per class"
        raise config.error(("data", "source"), f"{said} ({hint})")
    return replace(splits, train=replace(splits.train, paths=None))


def _sample(splits: Splits, seed: int) -> Images:
    """As many training images as validate, drawn from all, for these may be sorted by class."""
    count, drawn = len(splits.train), np.random.default_rng(derived_seed(seed, "sample"))
    return splits.train.take(np.sort(drawn.permutation(count)[: len(splits.validation)]))


def _on_disk(dataset: Dataset, folders: Folders) -> Dataset:
    def stored(images: Images | None) -> Images | None:
        return images and spilled(images, folders)

    train = spilled(dataset.train, folders)
    return Dataset(dataset.classes, train, stored(dataset.validation), stored(dataset.test))
