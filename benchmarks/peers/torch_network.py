"""A workload's network as one writes it in PyTorch."""

from typing import Any

from torch import nn

from benchmarks.workloads import WORKLOADS

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


def network(workload: str) -> nn.Sequential:
    """Images (batch, 1, 28, 28) to logits (batch, 10)."""
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
