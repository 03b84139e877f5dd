"""Weights out of a checkpoint into another network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnntrain.config.load import resolved
from cnntrain.data.preprocess import Preprocessing
from cnntrain.errors import CheckpointError, UsageError
from cnntrain.network.modules import layer_of, weights_of
from cnntrain.reports.text import percent, table
from cnntrain.run import checkpoint
from cnntrain.run.content import Checkpoint
from cnntrain.training.evaluate import evaluate

if TYPE_CHECKING:
    from torch import nn

    from cnntrain.app.preparation import Prepared

# Of each tensor, by name, which rows are taken, and into which; or all of it.
Rows = dict[str, tuple[list[int], list[int]] | None]


@dataclass(frozen=True)
class Match:
    """What a network can take from a checkpoint, and a table of it; `body` are the tensors below the classes."""

    rows: Rows
    text: str
    of: int
    body: frozenset[str]

    @property
    def is_little(self) -> bool:
        """Whether less than half of what knows nothing of classes is taken."""
        return 2 * len(self.body.intersection(self.rows)) < len(self.body)


def begin_with(init_from: str, given: Prepared) -> str:
    """Begin with the weights of a checkpoint, and remember which these were; gives what is to be said of it."""
    source, saved = named(init_from)
    match = transfer(source, saved, given.state.network, given.splits.classes)
    start = evaluate(given.state.network, given.plan.feeds.validation, given.state.ranks)
    given.state.init_from = {
        "path": os.path.abspath(checkpoint.file_of(source)),
        "sha256": saved.fingerprint,
        "taken": len(match.rows),
        "of": match.of,
        "validation_accuracy": start.accuracy,
        "remarks": list(_remarks(source, saved, match, given)),
    }
    return f"{match.text}\nbefore training: validation {start.loss:.4f}  {percent(start.accuracy)}"


def named(init_from: str) -> tuple[Path, Checkpoint]:
    """The checkpoint that a config names; raises `CheckpointError` where there is none."""
    # `Path` has a method for this, which raises where there is no such user.
    source = Path(os.path.expanduser(init_from))
    try:
        return source, checkpoint.load(source)
    except CheckpointError as error:
        said = f"`init_from: {source}`: {error}"
        if not source.is_absolute() and not source.exists():
            said += "; a relative path starts at the current directory"
        raise CheckpointError(said) from error


def transfer(source: Path, saved: Checkpoint, network: nn.Module, classes: Sequence[str]) -> Match:
    """Copy into `network` what it can take from a checkpoint; raises `UsageError` where that is nothing."""
    match, own = matched(source, saved, network, classes), network.state_dict()
    for name, rows in match.rows.items():
        tensor = saved.weights[name].to(own[name])
        if rows is None:
            own[name].copy_(tensor)
        else:
            here, there = rows
            own[name][here] = tensor[there]
    return match


def matched(source: Path, saved: Checkpoint, network: nn.Module, classes: Sequence[str]) -> Match:
    """What `network` can take: layers of the same name, each with all of its tensors, where the shapes agree.

    What the last layer with weights, and any after it, has for each class is taken by the names of classes. Raises
    `UsageError` where nothing matches.
    """
    own, of_classes = network.state_dict(), _of_classes(network)
    known = {name: number for number, name in enumerate(saved.classes)}
    places = [(here, known[name]) for here, name in enumerate(classes) if name in known]
    here, there = ([pair[side] for pair in places] for side in (0, 1))
    is_same = list(classes) == saved.classes
    # Of several weights, as in a `residual` layer, nobody knows which are sorted by class.
    is_plain = len(of_classes.intersection(weights_of(network))) == 1

    def is_by_class(name: str) -> bool:
        return name in of_classes and own[name].dim() > 0 and len(own[name]) == len(classes)

    def unfit(name: str) -> str:
        if name not in saved.weights:
            return "it has none of that name"
        shape, other = own[name].shape, saved.weights[name].shape
        if is_by_class(name) and other[:1] == (len(saved.classes),):
            shape, other = shape[1:], other[1:]
        if shape != other:
            return f"its shape there is {tuple(saved.weights[name].shape)}"
        is_known = bool(is_plain and places) and (is_by_class(name) or not own[name].dim())
        return "" if is_same or name not in of_classes or is_known else "it is for other classes there"

    why = {name: unfit(name) for name in own}
    broken = {layer_of(name) for name in own if why[name]}
    rows: Rows = {}
    said = {name: f"no: {why[name] or 'the rest of its layer does not fit'}" for name in own}
    for name in (name for name in own if layer_of(name) not in broken):
        is_by_name = is_by_class(name) and not is_same
        rows[name] = (here, there) if is_by_name else None
        part = f"{len(places)} of {len(classes)} classes" if len(places) < len(classes) else "the names of classes"
        said[name] = f"yes, by {part}" if is_by_name else "yes"
    head = ("tensor", "shape", f"taken from {source}?")
    text = table([head, *((name, str(tuple(tensor.shape)), said[name]) for name, tensor in own.items())], left=3)
    if not rows:
        raise UsageError(f"`init_from: {source}`: no layer matches by name and shape\n{text}")
    return Match(rows, f"{text}\n{len(rows)} of {len(own)} tensors taken", len(own), frozenset(own) - of_classes)


def _of_classes(network: nn.Module) -> set[str]:
    """The tensors of the config's last layer with weights, and of any after it."""
    layers = list(dict.fromkeys(map(_top, network.state_dict())))
    last = [_top(name) for name in weights_of(network)][-1:]
    after = layers[layers.index(last[0]) :] if last else []
    return {name for name in network.state_dict() if _top(name) in after}


def _top(name: str) -> str:
    """`4_softmax.linear.weight` to `4_softmax`."""
    return name.partition(".")[0]


def _remarks(source: Path, saved: Checkpoint, match: Match, given: Prepared) -> Iterator[str]:
    """What makes these weights worth less than they seem, or figures worth less with them."""
    if match.is_little:
        how = "a layer is found by its name, which begins with its place in the network, and by its shape"
        yield f"only {len(match.rows)} of {match.of} tensors are taken from {source}: {how}"
    try:
        there, here = Preprocessing.from_dict(saved.preprocessing).normalizes, given.preprocessing.normalizes
    except ValueError as error:
        raise CheckpointError(f"`init_from: {source}`: {error}") from error
    if there != here:
        were = "normalized" if there else "not normalized"
        yield f"{source} was trained with images that were {were}; set `data.normalize: {str(there).lower()}`"
    data, own = saved.config.get("data"), given.splits.fingerprints()
    if isinstance(data, dict) and data.get("source") == resolved(given.config)["data"]["source"]:
        others = [name for name in ("validation", "test") if own[name] != saved.data.get(name)]
        if others:
            yield (
                f"{source} was trained with other splits of the same data; the {' and '.join(others)} images here may "
                f"be among those that it was trained with"
            )
