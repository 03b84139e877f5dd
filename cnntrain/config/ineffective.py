"""Settings that have no effect beside others of the same config."""

from __future__ import annotations

from collections.abc import Iterator

from cnntrain.config.schema import Config


def ineffective(config: Config) -> Iterator[str]:
    """What will not do what it is there for, in words."""
    training = config.training
    early, schedule = training.early_stopping, training.schedule
    patience = schedule.arguments.model_dump().get("patience", 0)
    halves = schedule.name == "halve_on_plateau"
    if early and halves and early.patience <= patience and early.patience < training.epochs:
        yield (
            f"`training.early_stopping` ends the run before `halve_on_plateau` can lower the learning rate; give it a "
            f"`patience` above {patience}"
        )
    if training.freeze and config.init_from is None:
        yield "`training.freeze` without `init_from` keeps layers as random as they begin"
    if training.warmup_epochs > training.epochs:
        reached = training.epochs / training.warmup_epochs
        yield (
            f"`training.warmup_epochs: {training.warmup_epochs:g}` is longer than the run: the learning rate comes to "
            f"{100 * reached:.3g} % of what it is to be"
        )
