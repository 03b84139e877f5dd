"""A loop tuned by hand: resident tensors, indices of one permutation, `channels_last`, fused SGD, no `.item()`."""

from collections.abc import Callable

import torch
from torch.nn import functional

from benchmarks.peers.torch_network import network
from benchmarks.workloads import LEARNING_RATE, arrays


def train(workload: str, batch_size: int, tick: Callable[[], None]) -> None:
    """Train for ever."""
    torch.manual_seed(0)
    images, labels = map(torch.from_numpy, arrays())
    images = images.contiguous(memory_format=torch.channels_last)
    model = network(workload).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True)
    total = torch.zeros(())
    while True:
        for indices in torch.randperm(len(images)).split(batch_size):
            loss = functional.cross_entropy(model(images[indices]), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            tick()
