"""The shape of a config: every key, its type, its range and its default."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from cnntrain import registry
from cnntrain.config.document import Document, Place
from cnntrain.config.spec import (
    AugmentationSpec,
    InitializerSpec,
    LayerSpec,
    OptimizerSpec,
    ScheduleSpec,
    SourceSpec,
)
from cnntrain.errors import ConfigError
from cnntrain.strict import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Strict

# What draws stratified splits takes 32 bits at most; here the one of the sign is left away.
SEEDS = range(2**31)
Seed = Annotated[int, Field(ge=0, lt=SEEDS.stop)]


class SplitConfig(Strict):
    """How images are set apart: the last ones, or (with a seed) a random stratified choice."""

    size: float | int = Field(0.1, description="a fraction below 1, or a number of images")
    seed: Seed | None = Field(
        None, description="draw a stratified random sample with this seed; without a seed, take the last images"
    )

    @model_validator(mode="after")
    def _size_in_range(self) -> SplitConfig:
        # Who writes 1.0 means all of the images, and would get one.
        is_all = isinstance(self.size, float) and self.size == 1
        if is_all or not (0 < self.size < 1 or (self.size >= 1 and float(self.size).is_integer())):
            raise ValueError("`size` is a fraction between 0 and 1, or a whole number of images, such as 1000")
        return self


def _split(written: Any) -> Any:
    return {"size": written} if isinstance(written, int | float) else written


class _OrNumber:
    """Tells the JSON Schema of the number that `_split` takes."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, handler(core)]}


Split = Annotated[SplitConfig, BeforeValidator(_split), _OrNumber()]


_UNITS = {"": 1} | {
    f"{letter}{i}B": (1024 if i else 1000) ** n for n, letter in enumerate("KMGT", 1) for i in ("", "i")
}
_BYTES = rf"^[0-9]{{1,20}}(\.[0-9]{{1,20}})? ?({'|'.join(_UNITS)})$"


def _bytes(written: Any) -> Any:
    """`4GiB` to 4294967296."""
    if not isinstance(written, str):
        return written
    if not re.match(_BYTES, written):
        raise ValueError(f"a size is a number of bytes, or is written as 500MB or 4GiB, not {written!r}")
    number = re.match(r"[0-9.]+", written)
    assert number is not None
    return int(float(number[0]) * _UNITS[written[number.end() :].strip()])


class _OrSize:
    """Tells the JSON Schema of the text that `_bytes` takes."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(core), {"type": "string", "pattern": _BYTES}]}


Bytes = Annotated[int, Field(gt=0), BeforeValidator(_bytes), _OrSize()]


class DataConfig(Strict):
    """The data to train on."""

    source: SourceSpec = Field("digits", validate_default=True, description="where the images come from")
    validation: Split | None = Field(
        None,
        description="images set apart from the training images; by default the source's own split, or a random tenth",
    )
    test: Split | None = Field(
        None, description="images set apart from all, for a source without a test set; by default a random fifth"
    )
    limit: PositiveInt | None = Field(None, description="train on this many images only, the first ones")
    normalize: bool = Field(False, description="subtract the training images' mean, divide by their deviation")
    expand: Literal["one_pixel_shifts"] | None = Field(
        None, description="the book's expanded training set: each image also moved by a pixel up, down, left, right"
    )
    augment: list[AugmentationSpec] = Field(
        [],
        description="random transformations of training images, in this order, drawn anew for each image in each epoch",
    )
    memory_budget: Bytes | None = Field(
        None,
        description="stream images from disk if they take more bytes than this, such as 4GiB; by default half of the "
        "free memory of a GPU, or half of the computer's memory",
    )


class EarlyStoppingConfig(Strict):
    """Stop when what `monitor` names has not improved for `patience` epochs (the book's first problem)."""

    patience: PositiveInt = Field(10, description="epochs without an improvement; an equal figure is none")
    min_delta: NonNegativeFloat = Field(
        0.0, description="only a gain above this counts as an improvement: of accuracy in 0..1, of loss in nats"
    )
    restore_best: bool = Field(False, description="end with the best epoch's weights, also in `last.pt`")


class CheckpointEveryConfig(Strict):
    """Checkpoints within epochs too: so many minutes or steps after the one before."""

    minutes: PositiveFloat | None = Field(None, description="minutes since the previous checkpoint")
    steps: PositiveInt | None = Field(
        None,
        description="batches since the previous checkpoint; some more where several are taken at once: up to 50 on a "
        "GPU, up to 10 on a CPU",
    )

    @model_validator(mode="after")
    def _says_when(self) -> CheckpointEveryConfig:
        if self.minutes is None and self.steps is None:
            raise ValueError("`checkpoint_every` takes `minutes`, `steps`, or both: whichever comes first")
        return self


class TrainingConfig(Strict):
    """How to train."""

    epochs: PositiveInt = Field(10, description="passes over the training images")
    batch_size: PositiveInt = Field(64, description="images per step, over all devices; the last batch may be smaller")
    optimizer: OptimizerSpec = Field("sgd", validate_default=True, description="how the gradient updates the weights")
    schedule: ScheduleSpec = Field(
        "constant", validate_default=True, description="how the learning rate changes over the epochs"
    )
    warmup_epochs: NonNegativeFloat = Field(
        0.0, description="raise the learning rate linearly from 0 over this many epochs"
    )
    l2: NonNegativeFloat = Field(
        0.0,
        description="the lambda of network3.py: adds l2 / (2 * batches) * sum(weights^2) to the loss; the book's "
        "chapter 3 divides its lambda by the number of images, so that it is batch_size times this",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="how much of each label is spread evenly over all classes"
    )
    clip_grad_norm: PositiveFloat | None = Field(
        None,
        description="scale gradients down if their total Euclidean norm is larger than this; what l2 and "
        "weight_decay add to them is not counted",
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="validate, test and save an exponential moving average of the weights with this decay, such as "
        "0.999 (over about 1,000 steps), in the place of the weights; it can't change when a run is resumed",
    )
    shuffle: Literal["always", "balanced", "once", "never"] = Field(
        "always",
        description="always: anew for each epoch; balanced: likewise, with every class equally often, by repeating "
        "images of rare classes and omitting some of frequent ones; once: before the first epoch; never: in the order "
        "of the data",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="number format of the layers' computations in training (torch.autocast); weights stay float32. "
        "With float32, convolutions on a GPU round their inputs to TF32, as is torch's default",
    )
    engine: Literal["auto", "eager", "graph", "compiled"] = Field(
        "auto",
        description="how steps are executed. auto: the fastest way available, with the same bits on a CPU; eager: one "
        "by one; graph: many at once, as a CUDA graph; compiled: a network made faster by torch.compile, as a CUDA "
        "graph where `auto` would take one, else one by one",
    )
    monitor: Literal["validation_accuracy", "validation_balanced_accuracy", "validation_loss"] = Field(
        "validation_accuracy",
        description="what decides which epoch is the best, and what early_stopping and halve_on_plateau wait for; "
        "balanced accuracy is the mean of the accuracies on each class; it can't change when a run is resumed",
    )
    freeze: NonNegativeInt = Field(
        0,
        description="keep the first so many layers as they are, weights and running statistics, and train the others: "
        "for a network that begins with the weights of `init_from`",
    )
    early_stopping: EarlyStoppingConfig | None = None
    checkpoint_every: CheckpointEveryConfig | None = Field(
        None,
        description="also save within epochs, every `minutes` or `steps`; by default only at the end of each epoch",
    )
    on_divergence: Literal["stop", "rollback"] = Field(
        "stop", description="at a value that isn't finite: stop, or restart the epoch with half the learning rate"
    )
    deterministic: bool = Field(False, description="the same bits on a GPU too, at some cost; a CPU gives them anyway")

    @field_validator("l2")
    @classmethod
    def _l2_is_in_the_gradient(cls, l2: float, given: ValidationInfo) -> float:
        optimizer = given.data.get("optimizer")
        if l2 and optimizer and optimizer.name == "adamw":
            raise ValueError(
                "`l2` is part of the gradient, but `adamw` decouples decay from it; use its `weight_decay` instead"
            )
        return l2


class ClaimConfig(Strict):
    """An accuracy that the config claims to reach."""

    at_least: float = Field(
        ge=0,
        le=100,
        description="percent of the test images; the measured figure passes down to two standard errors below this, "
        "2 * sqrt(p * (1 - p) / images)",
    )
    of: Literal["best", "mean"] = Field(
        "best",
        description="the best seed by `training.monitor`, or the mean of all seeds; of no effect for an ensemble",
    )
    source: str | None = Field(None, description="where the figure was published")

    @field_validator("at_least")
    @classmethod
    def _in_percent(cls, at_least: float) -> float:
        # As a percentage it would claim nothing.
        if 0 < at_least < 1:
            raise ValueError(f"`at_least` is in percent: {100 * at_least:g}, not {at_least:g}")
        return at_least


class ExpectConfig(Strict):
    """What `cnntrain verify` tests."""

    seeds: PositiveInt | None = Field(
        None, description="train this many, from 0 on; by default 3; `verify --seeds` can ask for another number"
    )
    test_accuracy: ClaimConfig | None = None
    ensemble_accuracy: ClaimConfig | None = Field(
        None, description="accuracy of the plurality vote of all seeds' networks"
    )


class Config(Strict):
    """A whole experiment."""

    seed: Seed = Field(
        0, description="for initial weights, order, dropout and augmentation; the same seed gives the same bits"
    )
    data: DataConfig = Field(default_factory=DataConfig)
    network: Annotated[
        list[LayerSpec], Field(min_length=1, description="layers, from the image to one number for each class")
    ]
    init: InitializerSpec = Field(
        "auto", validate_default=True, description="how to initialize the weights of layers without their own `init`"
    )
    init_from: str | None = Field(
        None,
        description="a checkpoint or run directory, relative to the current directory; layers whose names and shapes "
        "match begin with its weights, and of the last layer the classes that it knows by name; its training images "
        "should be none of the test images here",
    )
    dropout_scaling: Literal["inverted", "book"] = Field(
        "inverted",
        description="inverted: scale kept values up in training; book: scale all down in testing, as the book does",
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    expect: ExpectConfig | None = None

    _document: Document = PrivateAttr(default_factory=lambda: Document(None))

    def error(self, place: Place, message: str) -> ConfigError:
        """An error about the value at `place`, pointing into the file that it came from."""
        return ConfigError([self._document.problem(place, message)])


# Where a mapping is one name with its arguments, and another name takes its place instead of joining it.
ONE_OF: dict[Place, registry.Registry] = {
    ("data", "source"): registry.sources,
    ("training", "optimizer"): registry.optimizers,
    ("training", "schedule"): registry.schedules,
    ("init",): registry.initializers,
}


def place_of(key: str, config: dict[Any, Any], section: type[Strict] = Config, within: Place = ()) -> str:
    """The dotted path to where a key of that name belongs in a config, or in a `section` of it; or nothing."""
    if key in section.model_fields:
        return key
    for name, field in section.model_fields.items():
        written = config.get(name, field.default)
        here = (*within, name)
        path = _argument(key, ONE_OF[here], written) if here in ONE_OF else ""
        # What may be left out is a union with None.
        for inner in get_args(field.annotation) or (field.annotation,):
            if isinstance(inner, type) and issubclass(inner, Strict):
                path = place_of(key, written if isinstance(written, dict) else {}, inner, here)
        if path:
            return f"{name}.{path}"
    return ""


def _argument(key: str, known: registry.Registry, written: Any) -> str:
    """`sgd.momentum`, where it is an argument of what is written."""
    name = next(iter(written), None) if isinstance(written, dict) else written
    takes_it = isinstance(name, str) and name in known and key in known[name].arguments.model_fields
    return f"{name}.{key}" if takes_it else ""
