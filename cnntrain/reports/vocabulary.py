"""The vocabulary of configs as text, and as a JSON Schema for editors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from cnntrain.config.schema import Config
from cnntrain.config.spec import KIND
from cnntrain.errors import UsageError
from cnntrain.network.activations import NAMES as ACTIVATIONS
from cnntrain.registry import ALL, Entry, Registry
from cnntrain.reports.settings import choices_of, settings
from cnntrain.strict import nearest

REFERENCE = "#/$defs/{model}"
EXTENDS = "another config, relative to this file, whose values this one overrides"


def describe(name: str | None = None) -> str:
    """Each name with its arguments, each activation, each key; with `name`, all that is written about it."""
    if name is None:
        return "\n\n".join([*map(_section, ALL.values()), f"activations:\n  {', '.join(ACTIVATIONS)}", _keys()])
    explanations = list(_explanations())
    found = [f"{head}\n\n{text}" for names, head, text in explanations if name in names]
    if not found:
        known = sorted({known for names, *_ in explanations for known in names})
        near = nearest(name, tuple(known))
        said = f"did you mean `{near}`?" if near else "`cnntrain layers` lists all names"
        raise UsageError(f"nothing is called `{name}`; {said}")
    return "\n\n".join(found)


def _explanations() -> Iterator[tuple[set[str], str, str]]:
    """(names that it goes by, its line, what is told about it) of everything that can be asked for."""
    for registry in ALL.values():
        for name in registry:
            parts = [inspect.getdoc(registry[name].factory) or "", *_choices(registry[name])]
            yield {name}, _signature(registry[name]), "\n".join(parts)
    for name in ACTIVATIONS:
        yield {name}, name, f"One of torch's activations: a layer's `activation`, or a layer: activation: {name}"
    entries = [registry[name] for registry in ALL.values() for name in registry]
    for argument in sorted({argument for entry in entries for argument in entry.arguments.model_fields}):
        takers = [taker for registry in ALL.values() for taker in registry.takers(argument)]
        yield {argument}, argument, f"An argument of {', '.join(takers)}."
    every = list(_settings())
    for path, default, text in every:
        inner = [f"  {_key(key, value)}\n      {said}" for key, value, said in every if key.startswith(f"{path}.")]
        yield {path, path.rpartition(".")[2]}, _key(path, default), "\n".join([text, *inner])


def _choices(entry: Entry) -> Iterator[str]:
    """`direction: horizontal, vertical` for each argument that is one of a few words."""
    for name, field in entry.arguments.model_fields.items():
        choices = choices_of(field.annotation)
        if choices:
            yield f"{name}: {', '.join(map(str, choices))}"


def _keys() -> str:
    return "keys:\n" + "\n".join(f"  {_key(path, default)}\n      {text}" for path, default, text in _settings())


def _settings() -> Iterator[tuple[str, str, str]]:
    """All keys; one of them is gone when a config is checked, for it is merged into what it extends."""
    yield from settings()
    yield "extends", "", EXTENDS


def _key(path: str, default: str) -> str:
    return f"{path}: {default}".rstrip()


def _section(registry: Registry) -> str:
    lines = [f"  {_signature(registry[name])}\n      {registry[name].summary}" for name in registry]
    return f"{registry.kind}s:\n" + "\n".join(lines)


def _signature(entry: Entry) -> str:
    parts = []
    for name, field in entry.arguments.model_fields.items():
        default = field.get_default(call_default_factory=True)
        parts.append(name if field.is_required() else f"{name}={default!r}")
    return f"{entry.name}({', '.join(parts)})"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a config, made of the same models and signatures that check it."""
    schema = Config.model_json_schema(ref_template=REFERENCE)
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    for registry in ALL.values():
        definitions[registry.kind] = {"anyOf": [_named(registry[name], definitions) for name in registry]}
    schema["properties"]["extends"] = {"type": "string", "description": EXTENDS}
    # A config may take its network from the one that it extends.
    schema["required"] = []
    complete = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "cnntrain config"}
    linked: dict[str, Any] = _linked(complete)
    return linked


def _linked(schema: Any) -> Any:
    """The schema with a reference wherever a field is marked as one of the registered kinds."""
    if isinstance(schema, list):
        return [_linked(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    linked = {key: _linked(value) for key, value in schema.items() if key != KIND}
    return {"$ref": f"#/$defs/{schema[KIND]}", **linked} if KIND in schema else linked


def _named(entry: Entry, definitions: dict[str, Any]) -> dict[str, Any]:
    arguments = entry.arguments.model_json_schema(ref_template=REFERENCE)
    definitions.update(arguments.pop("$defs", {}))
    forms: list[dict[str, Any]] = [arguments]
    if entry.first:
        forms.append(arguments["properties"][entry.first])
    mapping = {
        "type": "object",
        "properties": {entry.name: {"anyOf": forms}},
        "required": [entry.name],
        "additionalProperties": False,
        "description": entry.summary,
    }
    if arguments.get("required"):
        return mapping
    return {"anyOf": [{"const": entry.name, "description": entry.summary}, mapping]}
