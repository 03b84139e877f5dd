"""What a checkpoint says of single image files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cnntrain.app.display import Display, Silent
from cnntrain.app.model import Model, load_model
from cnntrain.app.where import Where
from cnntrain.data.convert import CHANNELS
from cnntrain.data.images import Images
from cnntrain.data.sources.pictures import fitted, kinds_of, open_picture, pictures_in
from cnntrain.errors import DataError, UsageError
from cnntrain.files import matching
from cnntrain.text import BELOW, shortened

BATCH = 256
# So many images are explained at most.
EXPLAINED = 36


@dataclass(frozen=True)
class Prediction:
    """One image's most likely classes with their probabilities in 0..1, the likeliest first."""

    path: str
    classes: list[str]
    probabilities: list[float]


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, and why."""

    path: str
    reason: str


def predict_images(
    checkpoint: str | Path | Model,
    inputs: str | Path | Sequence[str | Path],
    where: Where,
    top_k: int = 1,
    invert: bool = False,
    display: Display | None = None,
) -> Iterator[Prediction | Failure]:
    """Classify image files, the images in folders, and what globs match; `-` reads paths from stdin.

    A network that `load_model` gave stays where it is, whatever `where` says. `invert` is for dark marks on a light
    ground, where the network learned light on dark; what is transparent is taken for light then.
    """
    if top_k < 1:
        raise UsageError(f"`top_k` is how many of the most likely classes are asked for, at least 1, not {top_k}")
    texts = _texts(inputs)
    model = checkpoint if isinstance(checkpoint, Model) else load_model(checkpoint, where, display)
    if model.preprocessing.shape[0] not in CHANNELS:
        who = "the network" if isinstance(checkpoint, Model) else f"{checkpoint}:"
        raise UsageError(f"{who} takes images of {model.preprocessing.shape[0]} channels, which no file has")
    display = display or Silent()
    return _in_batches(model, _expand(texts, display), top_k, invert, display)


def _texts(inputs: str | Path | Sequence[str | Path]) -> list[str]:
    """Each input as it was written; raises `UsageError` for what names no file."""
    named = [inputs] if isinstance(inputs, str | Path) or not hasattr(inputs, "__iter__") else [*inputs]
    for one in named:
        if not isinstance(one, str | Path) or not str(one):
            what = "an empty text" if isinstance(one, str) else f"a {type(one).__name__}"
            raise UsageError(f"images are named by their paths, not by {what}; for those in memory use `Model.network`")
    return [*map(str, named)]


def drawn_evidence(
    model: Model, predictions: Sequence[Prediction], invert: bool = False, display: Display | None = None
) -> bytes:
    """A PNG of the images of some predictions, at least one, each beside what in it speaks for which class.

    That is `evidence` of the likeliest class against the next. Of many predictions it is the first `EXPLAINED`.
    """
    # It is slow to import, and most predictions do without.
    from cnntrain.app import evidence

    some = predictions[:EXPLAINED]
    stored = _stored([_pixels(Path(one.path), model, _ground(invert), Counter()) for one in some], invert)
    answers = _likeliest(model, stored, 2)
    captions = [
        "\n".join(f"{shortened(name, BELOW)}: {100 * value:.1f} %" for name, value in zip(*answer, strict=True))
        for answer in answers
    ]
    pairs = [(likeliest, other) for (likeliest, other), _ in answers]
    return evidence.drawn(model, stored, pairs, captions, display or Silent())


def _in_batches(
    model: Model, paths: Sequence[Path], top_k: int, invert: bool, display: Display
) -> Iterator[Prediction | Failure]:
    conversions: Counter[str] = Counter()
    for start in range(0, len(paths), BATCH):
        yield from _predict(model, paths[start : start + BATCH], top_k, invert, conversions)
        display.progress(min(start + BATCH, len(paths)), len(paths), "images")
    for what, count in conversions.items():
        display.warn(f"{count:,} of {len(paths):,} images {what}")


def _expand(inputs: Sequence[str], display: Display) -> list[Path]:
    paths: list[Path] = []
    passed_over: Counter[str] = Counter()
    for text in inputs:
        if text == "-":
            if sys.stdin is None:
                raise UsageError("`-` reads paths from standard input, but that is closed")
            # Some editors and shells begin a file with a byte-order mark.
            lines = sys.stdin.read().removeprefix("\ufeff").split("\n")
            paths += [Path(line.rstrip("\r")) for line in lines if line.strip()]
        else:
            paths += _named(text, passed_over)
    if not paths and {*inputs} != {"-"}:  # a list, as of what is new today, may be empty
        raise UsageError(f"there are no images in {', '.join(inputs)}")
    if passed_over:
        display.say(f"not read ({kinds_of(passed_over)})")
    return paths


def _named(text: str, passed_over: Counter[str]) -> Iterator[Path]:
    """A file, the images in a folder, or what a glob matches of either."""
    found = matching(text)
    folders = {path for path in found if path.is_dir()}
    for path in found:
        # What `**` matches in a folder comes with that folder.
        if folders.isdisjoint(path.parents):
            yield from pictures_in(path, passed_over) if path in folders else [path]


def _predict(
    model: Model, paths: Sequence[Path], top_k: int, invert: bool, conversions: Counter[str]
) -> Iterator[Prediction | Failure]:
    read: dict[Path, np.ndarray] = {}
    failures: dict[Path, Failure] = {}
    for path in paths:
        try:
            read[path] = _pixels(path, model, _ground(invert), conversions)
        except DataError as error:
            failures[path] = Failure(str(path), str(error))
    answers = dict(zip(read, _likeliest(model, _stored([*read.values()], invert), top_k), strict=True)) if read else {}
    for path in paths:
        yield failures[path] if path in failures else Prediction(str(path), *answers[path])


def _pixels(path: Path, model: Model, ground: str, conversions: Counter[str]) -> np.ndarray:
    """One image as (channels, height, width) uint8, noting what its conversion loses."""
    channels, height, width = model.preprocessing.shape
    picture = open_picture(path, ground, (height, width), channels)
    if channels == 1 and picture.mode != "L":
        colours = picture.convert("RGB")
        if colours.convert("L").convert("RGB").tobytes() != colours.tobytes():
            conversions["lost their colours: the network takes greyscale"] += 1
    if picture.size != (width, height):
        conversions[f"were resized to {height}x{width}"] += 1
    array = np.asarray(fitted(picture, (height, width), channels, model.fit, ground))
    return np.atleast_3d(array).transpose(2, 0, 1)


def _ground(invert: bool) -> Literal["white", "black"]:
    return "white" if invert else "black"


def _stored(pixels: Sequence[np.ndarray], invert: bool) -> np.ndarray:
    """Images as the network was trained on, light where that was light: (batch, channels, height, width)."""
    stored = np.stack(pixels)
    if invert:
        stored[:, :3] = 255 - stored[:, :3]
    return stored


def _likeliest(model: Model, stored: np.ndarray, top_k: int) -> list[tuple[list[str], list[float]]]:
    """Each image's most likely classes, and their probabilities."""
    probabilities = model.logits(Images(stored, np.zeros(len(stored), np.int64))).softmax(1)
    best = probabilities.topk(min(top_k, len(model.classes)))
    rows = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return [([model.classes[index] for index in indices], values) for values, indices in rows]
