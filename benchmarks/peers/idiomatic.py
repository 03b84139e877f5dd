"""The loop of PyTorch's MNIST example: a shuffling `DataLoader`, eager modules, `.item()` at each step.

Its images are tensors already; decoding a picture at a time, as the example does, would be slower still.
"""

from collections.abc import Callable

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.torch_network import network
from benchmarks.workloads import LEARNING_RATE, arrays

CPU = torch.device("cpu")


def train(workload: str, batch_size: int, tick: Callable[[], None], device: torch.device = CPU) -> None:
    """Train for ever."""
    torch.manual_seed(0)
    images, labels = map(torch.from_numpy, arrays())
    loader = DataLoader(TensorDataset(images, labels), batch_size=batch_size, shuffle=True)
    model = network(workload).train().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    total = 0.0
    while True:
        for batch in loader:
            data, target = (tensor.to(device) for tensor in batch)
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(data), target)
            loss.backward()
            optimizer.step()
            total += loss.item()
            tick()
