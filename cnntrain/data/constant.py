"""Numbers that are the same in every step, on the device that works with them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def constant(values: tuple[tuple[float, ...], ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers (rows, columns) on a device.

    Sent there once, since a CUDA graph can't be recorded while anything is. Whoever asks first may compute without
    gradients; others may not.
    """
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype)
