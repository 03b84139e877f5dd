"""A config's layers to a network: with weights, or on the meta device, where shapes cost nothing."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cnntrain import registry
from cnntrain.config.schema import Config
from cnntrain.config.spec import Spec
from cnntrain.network import layers  # noqa: F401  (registers the vocabulary)
from cnntrain.network.activations import NAMES, make_activation
from cnntrain.network.stack import Budget, Input, Misfit, Shape, stack

if TYPE_CHECKING:
    from torch import nn


def build(config: Config, shape: Shape, classes: int) -> "nn.Sequential":
    """The network for images of `shape` (channels, height, width), with weights drawn from the config's seed.

    It gives logits of shape (batch, classes). Raises `ConfigError` where a layer does not fit.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        # `torch.manual_seed` would seed the generators of all GPUs, too.
        torch.default_generator.manual_seed(config.seed)
        network = _stack(config, shape, classes, Budget())
    return _laid_out(network)


def unfilled(config: Config, shape: Shape, classes: int) -> "nn.Sequential":
    """The network as `build` gives it, but for its weights, which are to be loaded: drawing them takes time.

    A plugin's layers may keep what they draw elsewhere than in weights; with any of them, all is drawn as ever.
    """
    from cnntrain.network.undrawn import Undrawn

    if not set(_names(config.network)).isdisjoint(registry.of_plugins([registry.layers])):
        return build(config, shape, classes)
    with Undrawn():
        network = _stack(config, shape, classes, Budget(), is_filled=False)
    return _laid_out(network)


def _names(specs: Any) -> Iterator[str]:
    """The names in a list of layers, at any depth."""
    if isinstance(specs, Spec):
        yield specs.name
        specs = [*vars(specs.arguments).values()]
    if isinstance(specs, list):
        for inner in specs:
            yield from _names(inner)


def _laid_out(network: "nn.Sequential") -> "nn.Sequential":
    """The network with filters as images lie, in float32 where a program has set another default."""
    import torch

    if torch.get_default_dtype() is not torch.float32:
        network.to(torch.float32)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def check(config: Config, shape: Shape, classes: int) -> "nn.Sequential":
    """The network without weights, on the meta device; raises `ConfigError` where a layer does not fit.

    For looking at only: torch needs a second to load what computes shapes there.
    """
    import torch

    with torch.device("meta"):
        return _stack(config, shape, classes, Budget(numbers=sys.maxsize))


def _stack(config: Config, shape: Shape, classes: int, budget: Budget, is_filled: bool = True) -> "nn.Sequential":
    given = Input(shape, classes, config.init, config.dropout_scaling, ("network",), True, budget, is_filled)
    try:
        network, output = stack(config.network, given)
    except Misfit as error:
        raise config.error(error.place, str(error)) from error
    if output != (classes,):
        place = ("network", len(config.network) - 1)
        raise config.error(
            place, f"the network ends with shape {output}, but the data has {classes} classes; end it with `softmax`"
        )
    *_, last = network.modules()
    if isinstance(last, tuple(type(make_activation(name)) for name in NAMES if name != "linear")):
        place = ("network", len(config.network) - 1)
        said = f"the network ends with {type(last).__name__}, but the loss takes logits, which are unbounded"
        raise config.error(place, f"{said}; end it with `softmax`, or leave out that activation")
    return network
