"""Lightning's Trainer with its extras off: no logger, no checkpoints, no bar, no summary."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor

from benchmarks.peers.idiomatic import CPU
from benchmarks.peers.torch_data import loader
from benchmarks.peers.torch_network import loss_of, network, optimizer


class _Module(lightning.LightningModule):
    def __init__(self, workload: str) -> None:
        super().__init__()
        self.workload, self.network = workload, network(workload)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return loss_of(self.workload, self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer(self.workload, self.parameters())


class _Ticks(lightning.Callback):
    def __init__(self, tick: Callable[[], None]) -> None:
        self.tick = tick

    def on_train_batch_end(self, *_: Any) -> None:
        self.tick()


def train(workload: str, batch_size: int, tick: Callable[[], None], device: torch.device = CPU) -> None:
    """Train for ever."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(0)
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(accelerator=device.type, devices=1, max_epochs=-1, callbacks=[_Ticks(tick)], **off)
    trainer.fit(_Module(workload), loader(workload, batch_size, device))
