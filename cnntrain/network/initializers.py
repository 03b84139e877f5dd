"""How weights begin. Each initializer fills `weight` and `bias` in place, from torch's global generator.

The program supplies (weight, bias or None, fans); `Fans` tells how many values meet in one output.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cnntrain.network.activations import RELU_FAMILY
from cnntrain.registry import initializers
from cnntrain.strict import NonNegativeFloat, PositiveFloat

if TYPE_CHECKING:
    from torch import Tensor

Distribution = Literal["normal", "uniform"]


@dataclass(frozen=True)
class Fans:
    """A layer's connections: inputs to one output, outputs of one input, and the activation behind it."""

    inputs: float
    outputs: float
    activation: str


@initializers.register("auto")
def auto(weight: "Tensor", bias: "Tensor | None", fans: Fans, /) -> None:
    """He if the layer's own `activation` is in the ReLU family, otherwise Glorot; biases zero.

    A ReLU passes half of its input, so that weights of variance 1/n would halve the signal's
    variance with each layer; He's 2/n makes up for it. Linear layers, and nearly so tanh layers
    around zero, keep the signal's size, forwards and backwards, with Glorot's 2/(n_in + n_out). For a sigmoid,
    whose slope is 1/4 at most, gradients shrink with either. This answers the seventh problem of
    chapter 6 of the book.
    """
    (he if fans.activation in RELU_FAMILY else glorot)(weight, bias, fans)


@initializers.register("he")
def he(weight: "Tensor", bias: "Tensor | None", fans: Fans, /, distribution: Distribution = "normal") -> None:
    """Variance 2 / n_in; biases zero (He et al. 2015, Delving Deep into Rectifiers)."""
    _fill(weight, bias, math.sqrt(2 / fans.inputs), distribution)


@initializers.register("glorot")
def glorot(weight: "Tensor", bias: "Tensor | None", fans: Fans, /, distribution: Distribution = "uniform") -> None:
    """Variance 2 / (n_in + n_out); biases zero (Glorot and Bengio 2010)."""
    _fill(weight, bias, math.sqrt(2 / (fans.inputs + fans.outputs)), distribution)


@initializers.register("lecun")
def lecun(weight: "Tensor", bias: "Tensor | None", fans: Fans, /, distribution: Distribution = "normal") -> None:
    """Variance 1 / n_in; biases zero (LeCun et al. 1998, Efficient BackProp)."""
    _fill(weight, bias, math.sqrt(1 / fans.inputs), distribution)


@initializers.register("orthogonal")
def orthogonal(weight: "Tensor", bias: "Tensor | None", fans: Fans, /, gain: PositiveFloat = 1.0) -> None:
    """Orthogonal rows or columns, times `gain`; biases zero (Saxe et al. 2014)."""
    from torch.nn import init

    init.orthogonal_(weight, gain)
    _fill_bias(bias, 0.0)


@initializers.register("normal")
def normal(weight: "Tensor", bias: "Tensor | None", fans: Fans, /, std: NonNegativeFloat = 0.01) -> None:
    """Normal with the given standard deviation; biases zero."""
    _fill(weight, bias, std, "normal")


@initializers.register("zeros")
def zeros(weight: "Tensor", bias: "Tensor | None", fans: Fans, /) -> None:
    """All weights and biases zero."""
    _fill(weight, bias, 0.0, "normal")


@initializers.register("book")
def book(weight: "Tensor", bias: "Tensor | None", fans: Fans, /) -> None:
    """As in `network3.py`: weights N(0, 1/n_out), biases N(0, 1), and zeros in the softmax layer.

    For a convolution n_out is filters * kernel area / pool area (Nielsen, chapter 6).
    """
    _book(weight, bias, fans.outputs, fans.activation)


@initializers.register("book_corrected")
def book_corrected(weight: "Tensor", bias: "Tensor | None", fans: Fans, /) -> None:
    """Like `book`, but with n_in instead of n_out, as the book's text recommends (Nielsen, chapters 3 and 6).

    Zeros in the softmax layer, as in `book`.
    """
    _book(weight, bias, fans.inputs, fans.activation)


def _book(weight: "Tensor", bias: "Tensor | None", fan: float, activation: str) -> None:
    is_softmax = activation == "softmax"
    _fill(weight, None, 0.0 if is_softmax else math.sqrt(1 / fan), "normal")
    _fill_bias(bias, 0.0 if is_softmax else 1.0)


def _fill(weight: "Tensor", bias: "Tensor | None", std: float, distribution: Distribution) -> None:
    from torch.nn import init

    if distribution == "uniform":
        init.uniform_(weight, -math.sqrt(3) * std, math.sqrt(3) * std)
    else:
        init.normal_(weight, 0.0, std)
    _fill_bias(bias, 0.0)


def _fill_bias(bias: "Tensor | None", std: float) -> None:
    from torch.nn import init

    if bias is not None:
        init.normal_(bias, 0.0, std)
