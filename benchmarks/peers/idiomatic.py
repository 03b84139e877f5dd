"""The loop of PyTorch's MNIST example: a shuffling `DataLoader`, eager modules, `.item()` at each step.

Its images are tensors already; decoding a picture at a time, as the example does, would be slower still. For a GPU
another process loads them, into pinned memory, as in the example.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.peers.torch_data import dataset
from benchmarks.peers.torch_network import loss_of, network, optimizer

CPU = torch.device("cpu")
ON_A_GPU = {"num_workers": 1, "persistent_workers": True, "pin_memory": True}


def train(workload: str, batch_size: int, tick: Callable[[], None], device: torch.device = CPU) -> None:
    """Train for ever."""
    torch.manual_seed(0)
    how: dict[str, Any] = ON_A_GPU if device.type == "cuda" else {}
    loader = DataLoader(dataset(workload), batch_size=batch_size, shuffle=True, **how)
    model = network(workload).train().to(device)
    descent = optimizer(workload, model.parameters())
    total = 0.0
    while True:
        for batch in loader:
            data, target = (tensor.to(device) for tensor in batch)
            descent.zero_grad()
            loss = loss_of(workload, model(data), target)
            loss.backward()
            descent.step()
            total += loss.item()
            tick()
