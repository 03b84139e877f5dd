"""One self-contained HTML page about a run; pictures are within it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

# What a reader asks, and the pictures that answer it.
QUESTIONS = {
    "wrong": ("mistakes", "evidence", "similar", "confusion"),
    "trusted": ("calibration",),
    "trained": ("accuracy", "loss", "gap", "learning_rate", "filters", "gradients", "weights"),
}
CAPTIONS = {
    "accuracy": "Training and validation accuracy on equally many images, both without dropout and augmentation.",
    "loss": "Where validation loss turns upwards while training loss falls, the network begins to overfit.",
    "gap": "How much better the network is on training images than on others.",
    "learning_rate": "At the end of each epoch, as the schedule, a rollback or a change on resuming set it.",
    "confusion": "Rows are true classes, columns predictions, in the order of the table; mistakes are coloured by "
    "their share of the class.",
    "mistakes": "The worst mistakes, at most 36: truth, prediction, and how sure the network was.",
    "evidence": "What speaks for the prediction (orange), and what for the true class (blue): how the odds between "
    "them change where the image is covered, in full colour where they change most.",
    "similar": "Beside each of the worst mistakes the training images that are most like it to the network (by the "
    "cosine between what the last layer is given; of many, a sample): what it learned the mistake from. One that does "
    "not look like its class may have a wrong label.",
    "calibration": "How often the network is right, by how sure it is, with the number of images and the interval of "
    "95 % confidence. Above the line it is right more often than it expects; below the line it is too sure. "
    "`cnntrain calibrate` brings it closer to the line.",
    "filters": "The weights of at most 64 filters or units of the first layer, on one scale: orange above 0, blue "
    "below (of three channels in their colours, grey at 0; of two, or more than three, the first).",
    "gradients": "From the input (dark) to the output (bright); lines far apart: layers learn at different speeds.",
    "weights": "If weights grow while the loss does not fall, try `training.l2` or `weight_decay`.",
}


@dataclass(frozen=True)
class Page:
    """What the page shows: a title, the verdict, figures by name, pictures (PNG) by name, a table by class.

    `remarks` are what makes the figures worth less than they seem.
    `mistakes` are those that have a file of their own each, `confusions` true class, prediction and count of mistakes;
    `accepted` how many images and what accuracy are left where predictions have `at_least` a probability.
    """

    title: str
    verdict: str
    figures: Mapping[str, str]
    pictures: Mapping[str, bytes]
    classes: Sequence[Mapping[str, Any]]
    config: str
    command: str
    mistakes: Sequence[Mapping[str, Any]] = ()
    remarks: Sequence[str] = ()
    confusions: Sequence[tuple[str, str, int]] = ()
    accepted: Sequence[Mapping[str, Any]] = ()


def render(page: Page) -> str:
    """The page as HTML."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _code
    template = environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    pictures = {
        question: [
            {"name": name, "caption": CAPTIONS[name], "data": base64.b64encode(page.pictures[name]).decode("ascii")}
            for name in names
            if name in page.pictures
        ]
        for question, names in QUESTIONS.items()
    }
    return template.render(page=page, pictures=pictures)


def _code(escaped: str) -> str:
    """HTML in which what stands between two backticks is set as code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", str(escaped))
