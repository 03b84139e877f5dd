"""A loop tuned by hand: resident tensors, indices of one permutation, `channels_last`, fused SGD, no `.item()`."""

from collections.abc import Callable

import torch

from benchmarks.peers.torch_data import augmented
from benchmarks.peers.torch_network import loss_of, network, optimizer
from benchmarks.workloads import WORKLOADS, arrays


def train(workload: str, batch_size: int, tick: Callable[[], None]) -> None:
    """Train for ever."""
    torch.manual_seed(0)
    images, labels = map(torch.from_numpy, arrays(workload))
    images = images.contiguous(memory_format=torch.channels_last)
    model = network(workload).train().to(memory_format=torch.channels_last)
    descent = optimizer(workload, model.parameters(), fused=True)
    augment = augmented if WORKLOADS[workload].data.get("augment") else torch.nn.Identity()
    total = torch.zeros(())
    while True:
        for indices in torch.randperm(len(images)).split(batch_size):
            loss = loss_of(workload, model(augment(images[indices])), labels[indices])
            descent.zero_grad()
            loss.backward()
            descent.step()
            total += loss.detach()
            tick()
