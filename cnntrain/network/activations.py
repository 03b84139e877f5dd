"""The activations by name; each is torch's module of that name."""

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import nn

Activation = Literal[
    "linear",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "gelu",
    "silu",
    "softplus",
    "celu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "log_sigmoid",
    "mish",
    "relu6",
    "selu",
    "softsign",
    "tanhshrink",
]
NAMES: tuple[str, ...] = get_args(Activation)

# He's weights suit these better than Glorot's. The derivation is exact for `relu`; of the smooth ones, `elu`, `celu`
# and `softplus` pass more, and `gelu`, `silu`, `hardswish` and `mish` less of small inputs.
RELU_FAMILY = {"relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "celu", "hardswish", "mish", "relu6"}

_SPELLED_OTHERWISE = {
    "linear": "Identity",
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "celu": "CELU",
    "log_sigmoid": "LogSigmoid",
    "relu6": "ReLU6",
    "selu": "SELU",
}


def make_activation(name: str) -> "nn.Module":
    """The torch module of that name; `linear` is the identity."""
    from torch import nn

    module: nn.Module = getattr(nn, _SPELLED_OTHERWISE.get(name, name.capitalize()))()
    return module
