"""A run under way: what it works with, and what it leaves in its directory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from cnntrain.app.display import Display
from cnntrain.app.environment import environment
from cnntrain.app.preparation import Prepared
from cnntrain.app.signals import Listening
from cnntrain.app.where import Where
from cnntrain.config.load import resolved
from cnntrain.config.schema import Config
from cnntrain.data.splits import Splits
from cnntrain.run.content import Checkpoint
from cnntrain.run.directory import RunDirectory
from cnntrain.training.state import State


@dataclass
class Running:
    """A run under way, in one of its ranks."""

    given: Prepared
    where: Where
    directory: RunDirectory
    display: Display
    # Where others see to how signals are heard.
    listened: Listening | None = None
    # What makes its figures worth less than they seem.
    remarks: list[str] = field(default_factory=list)
    # What trains it.
    environment: dict[str, str | None] = field(default_factory=environment)

    @property
    def config(self) -> Config:
        """What was asked for."""
        return self.given.config

    @property
    def splits(self) -> Splits:
        """The images."""
        return self.given.splits

    @property
    def state(self) -> State:
        """Where training stands."""
        return self.given.state

    @property
    def part(self) -> float:
        """How much of its epochs is done, in 0..1."""
        epochs = self.state.epoch + self.state.batch / self.given.plan.batches
        return epochs / self.config.training.epochs

    def remark(self, line: str) -> None:
        """Tell the user of what also whoever reads the figures is to know."""
        self.remarks.append(line)
        self.display.warn(line)

    def checkpoint(self, with_state: bool) -> Checkpoint:
        """The network as it is now, with or without what it takes to go on."""
        result = self.state.history[-1] if self.state.history else None
        return Checkpoint(
            config=resolved(self.config),
            classes=list(self.splits.classes),
            preprocessing=self.given.preprocessing.to_dict(),
            weights=self.state.kept(),
            result=asdict(result) if result else None,
            data=self.splits.fingerprints(),
            plugins=self.given.plugins,
            training=self.state.save() if with_state else None,
        )

    def write_rows(self) -> None:
        """Bring the tables to where the state is."""
        self.directory.write_rows("metrics.csv", self.state.history)
        self.directory.write_rows("diagnostics.csv", self.state.health)
        self.directory.write_events([vars(result) for result in self.state.history])
