"""Layers that act on each value alone; shapes stay as they are."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cnntrain.network.activations import Activation, make_activation
from cnntrain.network.stack import Input
from cnntrain.registry import layers
from cnntrain.strict import Probability

if TYPE_CHECKING:
    from torch import nn


@layers.register("activation")
def activation(given: Input, /, name: Activation) -> "nn.Module":
    """One of torch's activations, by name."""
    return make_activation(name)


@layers.register("dropout")
def dropout(given: Input, /, p: Probability = 0.5) -> "nn.Module":
    """Zero each value with probability `p` in training (Srivastava et al. 2014); see `dropout_scaling`.

    On a CPU `p` from 2^-8 to 1 - 2^-8 is taken to the nearest 2^-16.
    """
    from cnntrain.network.modules import make_dropout

    return make_dropout(p, given.dropout_scaling)


@layers.register("scale")
def scale(given: Input, /, factor: Annotated[float, Field(allow_inf_nan=False)]) -> "nn.Module":
    """Multiply by a constant."""
    from cnntrain.network.modules import Scale

    return Scale(factor)
