"""Layers of torch without the values that torch begins them with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# What torch's convolutions and linear layers draw their weights and biases with.
DRAWS = (nn.init.kaiming_uniform_, nn.init.uniform_, Tensor.uniform_)


class Undrawn(TorchFunctionMode):
    """Within, torch's layers are left with what was in memory; in this thread alone."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What torch asks before each of its functions."""
        if function in DRAWS:
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))
