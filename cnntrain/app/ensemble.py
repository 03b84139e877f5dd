"""Several networks asked together: how right their vote is, and what it still gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from cnntrain.app.display import Display, Silent
from cnntrain.app.mistakes import drawn, mistakes, surest
from cnntrain.app.model import Model, load_model, own_images
from cnntrain.app.where import Where
from cnntrain.data.images import Folders
from cnntrain.errors import UsageError
from cnntrain.run import checkpoint

Vote = Literal["plurality", "mean"]
DRAWN, COLUMNS = 110, 11


@dataclass(frozen=True)
class Ensemble:
    """Accuracies in 0..1 on the test images: of the vote, and of each network alone; `wrong` counts `mistakes`.

    The probability of a mistake is the mean over the networks.
    """

    vote: str
    images: int
    accuracy: float
    alone: dict[str, float]
    wrong: int
    mistakes: list[dict[str, Any]]


def ensemble(runs: Sequence[str | Path], vote: Vote, where: Where, display: Display | None = None) -> Ensemble:
    """Ask the networks of several runs about the test images of the first one's data.

    `plurality` counts one vote a network, and a tie goes to the class with the largest mean
    probability; `mean` takes the class with the largest mean probability.
    """
    display = display or Silent()
    if vote not in get_args(Vote):
        raise UsageError(f"`{vote}`: a vote is one of {', '.join(get_args(Vote))}")
    _check_different(runs)
    models = [load_model(path, where, display) for path in runs]
    _check_same(models, runs)
    test = own_images(models[0], "test", Folders.standard(where.data_dir, display), display)
    probabilities = []
    for done, model in enumerate(models, start=1):
        probabilities.append(model.logits(test).softmax(1).cpu())
        display.progress(done, len(models), "networks")
    stacked = torch.stack(probabilities)
    voted = decide(stacked, vote)
    sure = stacked.mean(0).gather(1, voted[:, None])[:, 0]
    alone = [float((one.argmax(1).numpy() == test.labels).mean()) for one in probabilities]
    wrong = mistakes(models[0].classes, test, voted.numpy(), sure.numpy())
    accuracy, by_run = (len(test) - len(wrong)) / len(test), dict(zip(map(str, runs), alone, strict=True))
    return Ensemble(vote, len(test), accuracy, by_run, len(wrong), wrong)


def drawn_mistakes(found: Ensemble, where: Where) -> bytes:
    """A PNG of images that the vote gets wrong, at least one, those of which the networks are surest first."""
    first = load_model(next(iter(found.alone)), where)
    # Once more, which is quick, so that who does not draw need not keep the images.
    test = own_images(first, "test", Folders.standard(where.data_dir, Silent()), Silent())
    return drawn(surest(found.mistakes, DRAWN), test, COLUMNS)


def decide(probabilities: torch.Tensor, vote: Vote) -> torch.Tensor:
    """Classes (images,) from probabilities (networks, images, classes)."""
    # Where networks are sure, ties differ by less than float32 can tell.
    mean = probabilities.double().mean(0)
    if vote == "mean":
        return mean.argmax(1)
    classes = probabilities.shape[2]
    votes = torch.nn.functional.one_hot(probabilities.argmax(2), classes).sum(0)
    # Votes are whole numbers, so that a mean below 1 decides between equals only.
    return (votes + mean / 2).argmax(1)


def _check_different(runs: Sequence[str | Path]) -> None:
    files = [checkpoint.file_of(run).resolve() for run in runs]
    twice = next((run for run, file in zip(runs, files, strict=True) if files.count(file) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice}: is named twice, and would have two votes")


def _check_same(models: Sequence[Model], runs: Sequence[str | Path]) -> None:
    tested = models[0].data.get("test")
    for model, path in zip(models, runs, strict=True):
        is_same_test = tested is not None and model.data.get("test") == tested
        is_same_source = model.config.data.source == models[0].config.data.source
        if model.classes != models[0].classes or not (is_same_test or is_same_source):
            raise UsageError(f"{path}: was trained on other data than {runs[0]}")
        if not is_same_test:
            raise UsageError(
                f"{path}: has a different test split from {runs[0]}, and was trained on some of its test images"
            )
        if model.preprocessing.shape != models[0].preprocessing.shape:
            raise UsageError(f"{path}: takes images of another shape than {runs[0]}")
