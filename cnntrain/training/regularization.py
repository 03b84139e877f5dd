"""What keeps a network from learning its training images by heart: what of it a run has, and what else to try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn.modules.dropout import _DropoutNd

from cnntrain.network.modules import BookDropout

if TYPE_CHECKING:
    from torch import nn

    from cnntrain.config.schema import Config


@dataclass(frozen=True)
class Regularization:
    """What a network is trained with; `decay` is the key by which its weights decay, or could."""

    augments: bool = False
    expands: bool = False
    drops: bool = False
    decay: str = "`training.l2`"
    decays: bool = False
    stops_early: bool = False

    @classmethod
    def of(cls, config: Config, network: nn.Module) -> Regularization:
        """What a config asks for; dropout may be in a layer of any name."""
        training, optimizer = config.training, config.training.optimizer
        weight_decay = getattr(optimizer.arguments, "weight_decay", 0.0)
        decouples = optimizer.name == "adamw"
        return cls(
            augments=bool(config.data.augment),
            expands=config.data.expand is not None,
            drops=any(isinstance(layer, _DropoutNd | BookDropout) and layer.p > 0 for layer in network.modules()),
            decay="`weight_decay`" if decouples or (weight_decay and not training.l2) else "`training.l2`",
            decays=bool(training.l2 or weight_decay),
            stops_early=training.early_stopping is not None,
        )

    def more(self) -> list[str]:
        """What narrows the gap between training and validation images."""
        return [
            "more images" if self.augments else "more images or `data.augment`",
            "more `dropout`" if self.drops else "`dropout`",
            f"a larger {self.decay}" if self.decays else self.decay,
        ]

    def less(self) -> list[str]:
        """What lets the network learn more of its training images."""
        less = {"less `data.augment`": self.augments, "less `dropout`": self.drops}
        ways = less | {"no `data.expand`": self.expands, f"a smaller {self.decay}": self.decays}
        return [way for way, is_used in ways.items() if is_used]
