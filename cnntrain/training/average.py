"""A moving average of a network's weights, by which it is judged and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


class Average:
    """The exponential moving average of the weights after each step: each counts `decay` times as much as the next.

    What single steps bring about by chance averages out (Polyak and Juditsky 1992). Running statistics are averaged
    too. `sums` begin at zero, and what is not yet in them is divided out (Kingma and Ba 2015, Adam, section 3).
    """

    def __init__(self, network: nn.Module, decay: float, frozen: Sequence[str] = ()) -> None:
        self._decay = decay
        floats = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
        # What does not change is its own average; summed up, it would be rounded.
        self._kept = {name: value for name, value in floats.items() if name in frozen}
        self._weights = list(floats.values())
        self.sums = {name: torch.zeros_like(value) for name, value in floats.items()}

    def add(self) -> None:
        """Count the weights as they are after another step."""
        torch._foreach_lerp_([*self.sums.values()], self._weights, 1 - self._decay)

    def after(self, steps: int) -> dict[str, Tensor]:
        """The average after so many steps, at least one."""
        averaged = torch._foreach_div([*self.sums.values()], self._seen(steps))
        return {**dict(zip(self.sums, averaged, strict=True)), **self._kept}

    @contextmanager
    def in_place(self, steps: int) -> Iterator[None]:
        """Have the network be the average after so many steps, at least one."""
        own = [weight.clone() for weight in self._weights]
        torch._foreach_copy_(self._weights, [*self.after(steps).values()])
        try:
            yield
        finally:
            torch._foreach_copy_(self._weights, own)

    def begin_at_weights(self, steps: int) -> None:
        """Have the average after so many steps be the network's weights."""
        torch._foreach_copy_([*self.sums.values()], torch._foreach_mul(self._weights, self._seen(steps)))

    def restore(self, sums: dict[str, Tensor]) -> None:
        """Take over what was in `sums`; raises `ValueError` where it is of another network."""
        if {name: value.shape for name, value in sums.items()} != {name: own.shape for name, own in self.sums.items()}:
            raise ValueError("its average is of other weights")
        for name, own in self.sums.items():
            own.copy_(sums[name])

    def _seen(self, steps: int) -> float:
        return float(1 - self._decay**steps)
