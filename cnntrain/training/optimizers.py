"""torch's optimizers, under torch's names for their settings, but for `learning_rate`, its `lr`.

`weight_decay` and `l2` act on weights (two dimensions or more), never on biases or the scales of a
normalization.
"""

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from pydantic import AfterValidator, Field, ValidationInfo

from cnntrain.registry import optimizers
from cnntrain.strict import NonNegativeFloat, PositiveFloat, Probability

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from cnntrain.network.modules import Linear

Kind = TypeVar("Kind", bound="Optimizer")
Betas = Annotated[list[Probability], Field(min_length=2, max_length=2)]


def _with_momentum(nesterov: bool, given: ValidationInfo) -> bool:
    # A momentum that is no number has an error of its own.
    if nesterov and given.data.get("momentum") == 0:
        raise ValueError("`nesterov` needs a `momentum` above 0")
    return nesterov


Nesterov = Annotated[bool, AfterValidator(_with_momentum)]


@dataclass(frozen=True)
class Trainable:
    """What is optimized, and the gradient of the book's L2 term: `l2 / batches` times each weight."""

    network: "nn.Module"
    l2_gradient: float

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """torch's parameter groups: weights, which decay, and the rest, which doesn't; one where nothing decays."""
        from cnntrain.network.modules import weights_of

        parameters = [p for p in self.network.parameters() if p.requires_grad]
        decaying = {id(weight) for weight in weights_of(self.network).values()}
        weights = [p for p in parameters if id(p) in decaying]
        others = [p for p in parameters if id(p) not in decaying]
        if not weight_decay:
            # In the same order, so that a state fits both.
            return [{"params": weights + others, "weight_decay": 0.0}]
        groups = [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]


def _started_at_once(kind: type[Kind]) -> type[Kind]:
    """The same optimizer without what keeps torch.compile out of it, which imports the compiler first: for a second."""
    from torch import no_grad

    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    members: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    members |= {"step": no_grad()(inspect.unwrap(kind.step)), "torch_kind": kind}
    return cast(type[Kind], type(kind.__name__, (kind,), members))


def kind_of(optimizer: "Optimizer") -> type["Optimizer"]:
    """torch's class of an optimizer from here; any other's own."""
    kind: type[Optimizer] = getattr(optimizer, "torch_kind", type(optimizer))
    return kind


def is_plain_sgd(optimizer: "Optimizer") -> bool:
    """Whether an update is a multiple of the gradient and of the weight alone."""
    from torch.optim import SGD

    return kind_of(optimizer) is SGD and not any(group["momentum"] for group in optimizer.param_groups)


def begin_momentum(optimizer: "Optimizer") -> None:
    """Give what torch begins in its very first step alone to weights that have none of it, where others have.

    That is the momentum of RMSprop, where it was switched on later, and that of SGD, where layers were frozen.
    """
    from torch import zeros_like
    from torch.optim import SGD, RMSprop

    kind, state = kind_of(optimizer), optimizer.state
    if kind not in (SGD, RMSprop):
        return
    for group in (group for group in optimizer.param_groups if group["momentum"]):
        trained = [parameter for parameter in group["params"] if parameter.requires_grad]
        begun = [parameter for parameter in trained if state.get(parameter)]
        # SGD begins with all of them or with none; RMSprop with each when that comes.
        for parameter in trained if kind is SGD and begun else begun:
            state[parameter].setdefault("momentum_buffer", zeros_like(parameter))


def index_of_group(optimizer: "Optimizer", layer: "Linear") -> int:
    """The parameter group that a layer's weight is in; the groups themselves are replaced when a state is restored."""
    groups = [{id(parameter) for parameter in group["params"]} for group in optimizer.param_groups]
    return next(index for index, group in enumerate(groups) if id(layer.weight) in group)


def descend(
    optimizer: "Optimizer", index: int, weight: "Tensor", bias: "Tensor | None", values: "Tensor", gradient: "Tensor"
) -> None:
    """Plain SGD on a linear layer, from its inputs and the gradient of its outputs: the product is the update."""
    group = optimizer.param_groups[index]
    rate = group["lr"]
    weight.addmm_(gradient.t(), values, beta=1 - rate * group["weight_decay"], alpha=-rate)
    if bias is not None:
        bias.sub_(gradient.sum(0), alpha=rate)


def subtract(weight: "Tensor", bias: "Tensor | None", values: "Tensor", gradient: "Tensor") -> "Tensor | None":
    """Plain SGD on a linear layer where gradients come multiplied by the learning rate; the bias's own is given."""
    weight.addmm_(gradient.t(), values, alpha=-1)
    return None if bias is None else gradient.sum(0)


@optimizers.register("sgd")
def sgd(
    trainable: Trainable,
    /,
    learning_rate: PositiveFloat = 0.1,
    momentum: Probability = 0.0,
    nesterov: Nesterov = False,
    weight_decay: NonNegativeFloat = 0.0,
) -> "Optimizer":
    """Stochastic gradient descent; torch.optim.SGD."""
    from torch.optim import SGD

    groups = trainable.groups(weight_decay + trainable.l2_gradient)
    return _started_at_once(SGD)(groups, lr=learning_rate, momentum=momentum, nesterov=nesterov, fused=True)


@optimizers.register("adam")
def adam(
    trainable: Trainable,
    /,
    learning_rate: PositiveFloat = 1e-3,
    betas: Betas = [0.9, 0.999],  # noqa: B006
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
) -> "Optimizer":
    """Adam (Kingma and Ba 2015); torch.optim.Adam."""
    from torch.optim import Adam

    groups = trainable.groups(weight_decay + trainable.l2_gradient)
    return _started_at_once(Adam)(groups, lr=learning_rate, betas=(betas[0], betas[1]), eps=eps, fused=True)


@optimizers.register("adamw")
def adamw(
    trainable: Trainable,
    /,
    learning_rate: PositiveFloat = 1e-3,
    betas: Betas = [0.9, 0.999],  # noqa: B006
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.01,
) -> "Optimizer":
    """Adam with weight decay decoupled from the gradient (Loshchilov and Hutter 2019); torch.optim.AdamW.

    It can't be combined with `training.l2`, which is part of the gradient.
    """
    from torch.optim import AdamW

    return _started_at_once(AdamW)(
        trainable.groups(weight_decay), lr=learning_rate, betas=(betas[0], betas[1]), eps=eps, fused=True
    )


@optimizers.register("rmsprop")
def rmsprop(
    trainable: Trainable,
    /,
    learning_rate: PositiveFloat = 1e-3,
    alpha: Probability = 0.99,
    eps: PositiveFloat = 1e-8,
    momentum: Probability = 0.0,
    weight_decay: NonNegativeFloat = 0.0,
) -> "Optimizer":
    """RMSprop (Tieleman and Hinton 2012); torch.optim.RMSprop."""
    from torch.optim import RMSprop

    groups = trainable.groups(weight_decay + trainable.l2_gradient)
    return _started_at_once(RMSprop)(groups, lr=learning_rate, alpha=alpha, eps=eps, momentum=momentum)
