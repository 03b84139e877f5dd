"""One self-contained HTML page about a run; pictures are within it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

CAPTIONS = {
    "accuracy": "Training and validation accuracy on equally many images, both without dropout and augmentation.",
    "loss": "Where validation loss turns upwards while training loss falls, the network begins to overfit.",
    "gap": "How much better the network is on training images than on others.",
    "learning_rate": "As set by the schedule.",
    "confusion": "Rows are true classes, columns predictions, in the order of the table; only mistakes are coloured.",
    "mistakes": "The worst mistakes first: truth, prediction, and how sure the network was.",
    "filters": "The first layer's weights, each filter from its darkest to its brightest.",
    "gradients": "From the input (dark) to the output (bright); lines far apart: layers learn at different speeds.",
    "weights": "If weights grow while the loss does not fall, try `training.l2` or `weight_decay`.",
}


@dataclass(frozen=True)
class Page:
    """What the page shows: a title, the verdict, figures by name, pictures (PNG) by name, a table by class.

    `remarks` are what makes the figures worth less than they seem.
    `mistakes` are those that have a file of their own each, `confusions` true class, prediction and count of mistakes.
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


def render(page: Page) -> str:
    """The page as HTML."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    pictures = [
        {"name": name, "caption": CAPTIONS[name], "data": base64.b64encode(content).decode("ascii")}
        for name, content in page.pictures.items()
    ]
    return template.render(page=page, pictures=pictures)
