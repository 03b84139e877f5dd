"""The learning rate as a function of the epoch (the book's third problem).

A schedule gives the factor on the optimizer's learning rate at a time that is counted in epochs,
with fractions: 2.5 is the middle of the third epoch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from pydantic import Field

from cnntrain.registry import schedules
from cnntrain.strict import LARGEST, NonNegativeFloat, PositiveInt

Fraction = Annotated[float, Field(gt=0, lt=1)]
Factor = Annotated[float, Field(gt=0, le=1)]
LastFactor = Annotated[float, Field(ge=1e-30, lt=1)]
Divisor = Annotated[float, Field(ge=1e-6, le=LARGEST)]


class Schedule(Protocol):
    """The learning rate's factor over time."""

    def factor(self, time: float) -> float:
        """The factor at `time` epochs."""
        ...

    def observe(self, figure: float) -> None:
        """Take note of what is monitored after an epoch, the validation accuracy or another; more is better."""
        ...

    @property
    def finished(self) -> str:
        """Why training is to stop, or nothing."""
        ...

    def state(self) -> dict[str, float]:
        """What a checkpoint must hold."""
        ...

    def restore(self, state: dict[str, float]) -> None:
        """The inverse of `state`."""
        ...


@dataclass
class Fixed:
    """A schedule that is known beforehand."""

    factor: Callable[[float], float]
    finished: str = ""

    def observe(self, figure: float) -> None:
        """Nothing that happens changes it."""

    def state(self) -> dict[str, float]:
        """There is none."""
        return {}

    def restore(self, state: dict[str, float]) -> None:
        """There is none."""


@dataclass
class NoImprovement:
    """Counts epochs in which a figure has not risen by more than `min_delta`."""

    min_delta: float = 0.0
    best: float = -math.inf
    epochs: int = 0

    def observe(self, figure: float) -> int:
        """The number of epochs without improvement, this one included."""
        if figure > self.best + self.min_delta:
            self.best, self.epochs = figure, 0
        else:
            self.epochs += 1
        return self.epochs


@dataclass
class Halving:
    """The book's rule, see `halve_on_plateau`."""

    patience: int
    stop_at: float
    current: float = 1.0
    since: NoImprovement = field(default_factory=NoImprovement)

    def factor(self, time: float) -> float:
        """The factor as halved so far."""
        return self.current

    def observe(self, figure: float) -> None:
        """Halve after `patience` epochs without improvement, and count anew."""
        if self.since.observe(figure) >= self.patience:
            self.current /= 2
            self.since.epochs = 0

    @property
    def finished(self) -> str:
        """The learning rate has come down to its last value."""
        if self.current > self.stop_at:
            return ""
        return f"the learning rate was halved down to 1/{round(1 / self.current)} of its first value"

    def state(self) -> dict[str, float]:
        """Factor, best figure, epochs since."""
        return {"current": self.current, "best": self.since.best, "epochs": self.since.epochs}

    def restore(self, state: dict[str, float]) -> None:
        """The inverse of `state`; what another schedule left is nothing, and counting begins now."""
        if state:
            self.current = state["current"]
            self.since.best, self.since.epochs = state["best"], int(state["epochs"])


@schedules.register("constant")
def constant(epochs: int, /) -> Schedule:
    """The same learning rate throughout."""
    return Fixed(lambda time: 1.0)


@schedules.register("step")
def step(epochs: int, /, step_size: PositiveInt, gamma: Factor = 0.1) -> Schedule:
    """Multiplied by `gamma` after every `step_size` epochs; torch's StepLR."""
    return Fixed(lambda time: gamma ** (int(time) // step_size))


@schedules.register("multi_step")
def multi_step(epochs: int, /, milestones: list[PositiveInt], gamma: Factor = 0.1) -> Schedule:
    """Multiplied by `gamma` at each epoch of `milestones`; torch's MultiStepLR."""
    return Fixed(lambda time: gamma ** sum(time >= milestone for milestone in milestones))


@schedules.register("exponential")
def exponential(epochs: int, /, gamma: Factor) -> Schedule:
    """Multiplied by `gamma` after every epoch; torch's ExponentialLR."""
    return Fixed(lambda time: gamma ** int(time))


@schedules.register("linear")
def linear(epochs: int, /, end: NonNegativeFloat = 0.0) -> Schedule:
    """A straight line from 1 down to `end` over all epochs, batch by batch."""
    return Fixed(lambda time: 1 + (end - 1) * min(time / epochs, 1))


@schedules.register("cosine")
def cosine(epochs: int, /, end: NonNegativeFloat = 0.0) -> Schedule:
    """Half a cosine from 1 down to `end` over all epochs, batch by batch (Loshchilov and Hutter 2017)."""
    return Fixed(lambda time: end + (1 - end) * (1 + math.cos(math.pi * min(time / epochs, 1))) / 2)


@schedules.register("one_cycle")
def one_cycle(
    epochs: int,
    /,
    pct_start: Fraction = 0.3,
    div_factor: Divisor = 25.0,
    final_div_factor: Divisor = 1e4,
) -> Schedule:
    """Up from 1/`div_factor` to 1, then down to nearly nothing (Smith and Topin 2018).

    Like torch's OneCycleLR, but the peak comes after `pct_start` of all steps, and the end after the last one. The
    optimizer's learning rate is the highest one; momentum is not changed.
    """
    first, last = 1 / div_factor, 1 / (div_factor * final_div_factor)

    def factor(time: float) -> float:
        done = min(time / epochs, 1)
        if done < pct_start:
            return _ease(first, 1, done / pct_start)
        return _ease(1, last, (done - pct_start) / (1 - pct_start))

    return Fixed(factor)


@schedules.register("halve_on_plateau")
def halve_on_plateau(epochs: int, /, patience: PositiveInt = 10, stop_at: LastFactor = 1 / 128) -> Schedule:
    """Halved when what `training.monitor` names has not improved for `patience` epochs; training ends at `stop_at`.

    The rule of the book: chapter 3, "How to choose a neural network's hyper-parameters?".
    """
    return Halving(patience, stop_at)


def _ease(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def warmed_up(factor: float, time: float, warmup_epochs: float, step: float) -> float:
    """`factor` times a straight line that reaches 1 after `warmup_epochs`; `step` is one batch in epochs."""
    return factor if time >= warmup_epochs else factor * min((time + step) / warmup_epochs, 1)
