"""A name and its arguments, as a config writes them: `relu`, `max_pool: 2`, `conv: {filters: 8}`."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, PlainSerializer, ValidationError
from pydantic.json_schema import WithJsonSchema

from cnntrain import registry
from cnntrain.strict import Strict, problem, problems, raise_all, short

KIND = "x-cnntrain-kind"
# What stands in lists.
LISTED = ("layer", "augmentation")


class Spec(BaseModel):
    """A registered name with its checked arguments; what it stands for is made later, by `make`."""

    model_config = {"frozen": True, "arbitrary_types_allowed": True}

    kind: str
    name: str
    arguments: Strict

    def __reduce__(self) -> tuple[Any, ...]:
        # The class of the arguments is made when the name is registered, and is found in no module.
        return _registered, (registry.ALL[self.kind][self.name].factory.__module__, self.kind, _write(self))

    def make(self, *context: Any) -> Any:
        """Call the factory with what the program supplies and what the config said."""
        # A factory may change what it is given, but not the config.
        arguments = {key: deepcopy(getattr(self.arguments, key)) for key in type(self.arguments).model_fields}
        return registry.ALL[self.kind][self.name].factory(*context, **arguments)


def _registered(module: str, kind: str, written: Any) -> Any:
    """A spec in a process that may not yet have imported what registers its name."""
    import_module(module)
    return _parse(kind, written)


def _parse(kind: str, written: Any) -> Any:
    if isinstance(written, Spec):
        return written
    name, arguments = _name_and_arguments(kind, written)
    try:
        entry = registry.ALL[kind][name]
    except LookupError as error:
        raise_all(kind, [problem(error.args[0], (name,))])
    if not isinstance(arguments, dict):
        arguments = _shorthand(entry, arguments)
    try:
        return Spec(kind=kind, name=name, arguments=entry.arguments.model_validate(arguments))
    except ValidationError as error:
        raise_all(kind, problems(error, (name,)))


def _name_and_arguments(kind: str, written: Any) -> tuple[str, Any]:
    if isinstance(written, str):
        return written, {}
    if isinstance(written, dict) and len(written) == 1:
        [(name, arguments)] = written.items()
        return name, {} if arguments is None else arguments
    if isinstance(written, dict) and written:
        keys = ", ".join(f"`{key}`" for key in written)
        advice = "indent its arguments" + ", or write two items" * (kind in LISTED)
        raise_all(kind, [problem(f"one {kind} has one key, this has {keys}; {advice}")])
    raise_all(kind, [problem(f"{_one(kind)} is a name or `name: {{arguments}}`, not {short(written)}")])
    raise AssertionError


def _one(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _shorthand(entry: registry.Entry, value: Any) -> dict[str, Any]:
    if entry.first is None:
        raise_all(entry.name, [problem(f"`{entry.name}` takes no arguments", (entry.name,))])
    return {str(entry.first): value}


def _write(spec: Spec) -> Any:
    arguments = spec.arguments.model_dump(mode="json")
    return {spec.name: arguments} if arguments else spec.name


def _spec(kind: str) -> tuple[Any, ...]:
    return (
        BeforeValidator(lambda written: _parse(kind, written)),
        PlainSerializer(_write),
        # A mark, for whoever knows the vocabulary to put a reference in its place.
        WithJsonSchema({KIND: kind}),
    )


LayerSpec = Annotated[Spec, *_spec("layer")]
InitializerSpec = Annotated[Spec, *_spec("initializer")]
OptimizerSpec = Annotated[Spec, *_spec("optimizer")]
ScheduleSpec = Annotated[Spec, *_spec("schedule")]
AugmentationSpec = Annotated[Spec, *_spec("augmentation")]
SourceSpec = Annotated[Spec, *_spec("data source")]
