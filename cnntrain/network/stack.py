"""Threads a shape through a list of layers: each is made for the output of the one before.

Shapes are without the batch: (channels, height, width) or (features,).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cnntrain.config.document import Place
from cnntrain.config.spec import Spec
from cnntrain.errors import first_line, is_out_of_memory
from cnntrain.network.initializers import Fans

if TYPE_CHECKING:
    from torch import Tensor, nn

Shape = tuple[int, ...]


class Misfit(ValueError):
    """A layer that can't be made for its input; `place` is where the config has it."""

    def __init__(self, place: Place, message: str) -> None:
        self.place = place
        super().__init__(message)


@dataclass
class Budget:
    """What is left to a network: layers, and numbers in its weights and in its outputs for one image.

    It is spent before memory is taken or time is lost: a config of one line can ask for any size.
    """

    layers: int = 4_000
    numbers: int = 2**30

    def spend(self, layers: int = 0, numbers: int = 0) -> None:
        """Raises `ValueError` where nothing is left."""
        self.layers -= layers
        self.numbers -= numbers
        if self.layers < 0:
            raise ValueError(f"with it, the network has more than {Budget.layers:,} layers; repeat fewer")
        if self.numbers < 0:
            asked = f"{numbers:,} weights and outputs" if numbers > Budget.numbers else "its weights and outputs"
            raise ValueError(f"with {asked}, the network has more than {Budget.numbers:,} of them; lower its sizes")


@dataclass(frozen=True)
class Input:
    """What a layer's factory is given: the shape that comes in, and what holds for the whole network."""

    shape: Shape
    classes: int
    init: Spec
    dropout_scaling: str
    place: Place
    is_last: bool = False
    budget: Budget = field(default_factory=Budget)
    is_filled: bool = True

    @property
    def channels(self) -> int:
        """Channels of an image; raises `ValueError` when the input is flat."""
        if len(self.shape) != 3:
            raise ValueError(f"it takes (channels, height, width), but gets {self.shape}")
        return self.shape[0]

    @property
    def features(self) -> int:
        """Values of a flat input; raises `ValueError` when it is an image."""
        if len(self.shape) != 1:
            raise ValueError(f"it takes (features,), but gets {self.shape}; put `flatten` before it")
        return self.shape[0]

    def fill(self, weight: "Tensor", bias: "Tensor | None", fans: Fans, init: Spec | None) -> None:
        """Initialize a layer's parameters by its own `init`, else the network's.

        On the meta device there are no values, and torch would load its compiler to draw none.
        """
        if self.is_filled and not weight.is_meta:
            (init or self.init).make(weight, bias, fans)

    def build(self, layers: Sequence[Spec], *within: int | str) -> "tuple[nn.Sequential, Shape]":
        """Build layers nested in this one; `within` leads to them from here in the config."""
        return stack(layers, replace(self, place=(*self.place, *within), is_last=False))


def stack(layers: Sequence[Spec], given: Input) -> "tuple[nn.Sequential, Shape]":
    """The layers as one module, and its output shape; raises `Misfit`."""
    from torch import nn

    built, shape = nn.Sequential(), given.shape
    for index, spec in enumerate(layers):
        # A factor changes the logits, but not what they are of.
        is_last = given.is_last and all(later.name == "scale" for later in layers[index + 1 :])
        here = replace(given, shape=shape, place=(*given.place, index), is_last=is_last)
        module, shape = _make(spec, here)
        built.add_module(f"{index}_{spec.name}", module)
    return built, shape


def _make(spec: Spec, given: Input) -> "tuple[nn.Module, Shape]":
    from torch import nn

    try:
        given.budget.spend(layers=1)
        module = spec.make(given)
        if not isinstance(module, nn.Module):
            raise ValueError(f"its function returns {type(module).__name__}, not a torch module")
        return module, output_shape(module, given.shape)
    except Misfit:
        raise
    except (ValueError, RuntimeError, AssertionError) as error:
        reason = "there is too little memory" if is_out_of_memory(error) else first_line(error)
        message = f"layer `{spec.name}` does not fit its input {given.shape}: {reason}"
        raise Misfit(given.place, message) from error


def output_shape(module: "nn.Module", shape: Shape) -> Shape:
    """The shape that `module` makes of `shape`, found by sending one image through, as images lie in training.

    Raises `ValueError` where it makes anything but a tensor for one image.
    """
    import torch

    parameter = next(module.parameters(), None)
    device = parameter.device if parameter is not None else torch.get_default_device()
    was_training = module.training
    image = torch.zeros((1, *shape), device=device)
    if len(shape) == 3:
        image = image.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        output = module.eval()(image)
    module.train(was_training)
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"it returns {type(output).__name__}, not a tensor")
    if output.dim() < 2 or len(output) != 1:
        raise ValueError(f"of one image it makes {tuple(output.shape)}; the first dimension is that of the images")
    return tuple(output.shape[1:])
