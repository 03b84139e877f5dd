"""Numbers that are the same in every step, on the device that works with them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def constant(values: tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    """Numbers (rows, columns) on a device.

    Sent there once, since a CUDA graph can't be recorded while anything is.
    """
    return torch.tensor(values, device=device)
