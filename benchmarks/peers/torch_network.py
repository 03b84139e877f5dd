"""A workload's network, optimizer and loss as one writes them in PyTorch."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.workloads import WORKLOADS

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


def network(workload: str) -> nn.Sequential:
    """Images (batch, channels, height, width) to logits (batch, 10)."""
    if workload == "W5":
        return _residual()
    built, channels, side = nn.Sequential(), 1, 28
    features = channels * side * side
    for layer in WORKLOADS[workload].layers:
        [(name, given)] = layer.items()
        if name == "conv_pool":
            built.extend(
                [nn.Conv2d(channels, given["filters"], 5), nn.MaxPool2d(2), ACTIVATIONS[given["activation"]]()]
            )
            channels, side = given["filters"], (side - 4) // 2
            features = channels * side * side
        else:
            features = _full(built, name, given, features)
    return built


def _full(built: nn.Sequential, name: str, given: dict[str, Any], features: int) -> int:
    if not any(isinstance(module, nn.Flatten) for module in built):
        built.append(nn.Flatten())
    if given["dropout"]:
        built.append(nn.Dropout(given["dropout"]))
    units = given.get("units", 10)
    built.append(nn.Linear(features, units))
    if name == "fully_connected":
        built.append(ACTIVATIONS[given["activation"]]())
    return int(units)


class Block(nn.Module):
    """Two convolutions and a shortcut around them (He et al. 2016)."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        is_same = (channels, stride) == (filters, 1)
        self.shortcut = nn.Identity() if is_same else nn.Conv2d(channels, filters, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, filters, height / stride, width / stride)."""
        hidden = functional.relu(self.bn1(self.conv1(images)))
        return functional.relu(self.bn2(self.conv2(hidden)) + self.shortcut(images))


def _residual() -> nn.Sequential:
    stem = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    blocks = [Block(64, 64, 1), Block(64, 128, 2), Block(128, 256, 2), Block(256, 256, 1)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def optimizer(workload: str, parameters: Iterable[nn.Parameter], fused: bool = False) -> torch.optim.SGD:
    """SGD with the workload's settings, on everything that it has, as usual."""
    settings = dict(WORKLOADS[workload].sgd)
    return torch.optim.SGD(parameters, lr=settings.pop("learning_rate"), fused=fused, **settings)


def loss_of(workload: str, logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy."""
    return functional.cross_entropy(logits, labels, label_smoothing=WORKLOADS[workload].label_smoothing)
