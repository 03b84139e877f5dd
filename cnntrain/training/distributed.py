"""Several processes that train one network together, each on its share of every batch.

A rank is one of them, with a device of its own. One process alone is the same interface with
nothing to do.
"""

from __future__ import annotations

import atexit
import os
from time import monotonic
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from cnntrain import registry
from cnntrain.errors import UsageError

T = TypeVar("T")

# How often ranks ask each other whether one of them has been sent a signal.
AGREE_SECONDS = 1.0
# What is heard where nobody is left to say it.
LAUNCHER_GONE = "the end of its launcher"


class Ranks:
    """The ranks of a run: one process here, whose share is everything, and `Group` where there are several."""

    rank = 0
    size = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def purpose(self) -> str:
        """What this rank's random numbers are derived from the seed for."""
        return f"training/rank {self.rank}" if self.rank else "training"

    def part(self, count: int) -> slice:
        """This rank's images of a split of `count`; the parts of all ranks make up the whole."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network as training calls it; its parameters are those of `network`."""
        return network

    def own(self, batch: Tensor) -> Tensor:
        """This rank's indices of a global batch."""
        return batch

    def share(self, batch: Tensor) -> tuple[Tensor, bool]:
        """The same, for the step that comes now, and whether they count in the totals."""
        return batch, True

    def gather(self, value: T) -> list[T]:
        """The values that all ranks have, by rank; all must ask."""
        return [value]

    def agree(self, signal: str | None) -> str | None:
        """A signal that any rank was sent; all hear of it at the same step."""
        return signal

    def command(self) -> list[str]:
        """The words of a command line that trains with as many ranks."""
        return ["cnntrain", "train"]


class Group(Ranks):
    """One rank of several, started by torch's launcher, which says in the environment who and where it is.

    Gradients are sums over the global batch divided by its size, however unevenly it is shared, so
    that every update is the one that one process would make of it, up to the order of additions.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        # Once for all runs of a process: a second meeting at the launcher's address would find the first one's traces.
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(dist.destroy_process_group)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        # Words pass between CPUs, so that nobody has to wait for what a device is still computing.
        self._words = dist.new_group(backend="gloo")
        self._weight = 1.0
        # Others than torch's may end when they have started everything.
        self._launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
        self._steps, self._waiting, self._asked = 1, 0, monotonic()

    def parallel(self, network: nn.Module) -> nn.Module:
        """torch's DistributedDataParallel, exact for unequal shares too; `batch_norm` sees the global batch."""
        _share_statistics(network, self.device)
        # A plugin may leave a layer out, in some steps.
        may_skip = bool(registry.of_plugins())
        parallel = DistributedDataParallel(network, gradient_as_bucket_view=True, find_unused_parameters=may_skip)
        parallel.register_forward_hook(self._weigh)
        return parallel

    def _weigh(self, module: nn.Module, inputs: Any, logits: Tensor) -> None:
        """Let a rank's mean loss count by its share of the batch; torch takes the plain mean of gradients."""
        if logits.requires_grad and self._weight != 1:
            logits.register_hook(lambda gradient: gradient * self._weight)  # type: ignore[no-untyped-call]

    def own(self, batch: Tensor) -> Tensor:
        """One of nearly equal pieces; a batch of fewer images than ranks is taken whole by each of them."""
        return batch if len(batch) < self.size else torch.tensor_split(batch, self.size)[self.rank]

    def share(self, batch: Tensor) -> tuple[Tensor, bool]:
        """The same, for the step that comes now; what all ranks take whole counts once."""
        share, is_whole = self.own(batch), len(batch) < self.size
        self._weight = 1.0 if is_whole else self.size * len(share) / len(batch)
        return share, not is_whole or self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The values that all ranks have, by rank; all must ask."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._words)
        return values

    def agree(self, signal: str | None) -> str | None:
        """A signal that any rank was sent, or the launcher's end; all hear of it at the same step, a second later."""
        self._waiting += 1
        if self._waiting < self._steps:
            return None
        if self._launcher not in (None, os.getppid()):
            signal = signal or LAUNCHER_GONE
        now = monotonic()
        heard = self.gather((signal, (now - self._asked) / self._waiting))
        self._steps = max(1, int(AGREE_SECONDS / max(seconds for _, seconds in heard)))
        self._waiting, self._asked = 0, now
        return next((name for name, _ in heard if name), None)

    def command(self) -> list[str]:
        """The words of a command line that trains with as many ranks."""
        if int(os.environ["LOCAL_WORLD_SIZE"]) == self.size:
            return [*super().command(), "--devices", str(self.size)]
        return ["torchrun", "...", "-m", *super().command()]


def _share_statistics(module: nn.Module, device: torch.device) -> None:
    """Make every `batch_norm` in `module` normalize by the global batch."""
    for name, child in module.named_children():
        if not isinstance(child, _BatchNorm):
            _share_statistics(child, device)
        elif device.type == "cuda":
            setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]
        elif not (child.affine and child.track_running_stats) or child.momentum is None:
            raise UsageError(
                "on a CPU, several processes can't share a batch normalization without weights, statistics or momentum"
            )
        else:
            setattr(module, name, _SharedBatchNorm(child))


class _SharedBatchNorm(_BatchNorm):
    """A batch normalization over all ranks' images; torch's SyncBatchNorm has no kernels for the CPU."""

    def __init__(self, local: _BatchNorm) -> None:
        super().__init__(local.num_features, local.eps, local.momentum)
        self.weight, self.bias = local.weight, local.bias
        self.running_mean, self.running_var = local.running_mean, local.running_var

    def _check_input_dim(self, values: Tensor) -> None:
        """Any shape will do."""

    def forward(self, values: Tensor) -> Tensor:
        """(batch, channels, ...) -> the same shape."""
        if not self.training:
            return super().forward(values)
        # As torch's kernels do it: counts and sums are exact, whatever the layers around it are rounded to.
        kind, values = values.dtype, values.to(self.weight.dtype)
        others = [0, *range(2, values.dim())]
        shape = [1, -1] + [1] * (values.dim() - 2)
        own = values.new_tensor([values.numel() / values.shape[1]])
        sums = _sum_over_ranks(torch.cat([values.sum(others), own]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = values - mean.view(shape)
        variance = _sum_over_ranks(centred.square().sum(others)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scaled = centred * (self.weight * (variance + self.eps).rsqrt()).view(shape)
        return (scaled + self.bias.view(shape)).to(kind)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


class _SumOverRanks(torch.autograd.Function):
    """What every rank's loss owes to the sum is summed on the way back."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _SumOverRanks.forward(context, gradient)


def _sum_over_ranks(values: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]
    return total
