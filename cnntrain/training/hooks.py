"""Looking at what the parts of a network give while it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn


@contextmanager
def watched(modules: Iterable[tuple[str, nn.Module]], note: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Tell `note` the name and the output of each of these modules when it is computed.

    What is no tensor is passed over: a plugin's modules may give each other anything.
    """

    def tell(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            note(name, output)

    hooks = [module.register_forward_hook(partial(tell, name)) for name, module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
