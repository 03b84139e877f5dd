"""The loop of PyTorch's MNIST example: a shuffling `DataLoader`, eager modules, `.item()` at each step.

Its images are tensors already; decoding a picture at a time, as the example does, would be slower still.
"""

from collections.abc import Callable

import torch

from benchmarks.peers.torch_data import loader
from benchmarks.peers.torch_network import loss_of, network, optimizer

CPU = torch.device("cpu")


def train(workload: str, batch_size: int, tick: Callable[[], None], device: torch.device = CPU) -> None:
    """Train for ever."""
    torch.manual_seed(0)
    batches = loader(workload, batch_size, device)
    model = network(workload).train().to(device)
    descent = optimizer(workload, model.parameters())
    total = 0.0
    while True:
        for batch in batches:
            data, target = (tensor.to(device) for tensor in batch)
            descent.zero_grad()
            loss = loss_of(workload, model(data), target)
            loss.backward()
            descent.step()
            total += loss.item()
            tick()
