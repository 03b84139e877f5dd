"""The vocabulary of configs as text, and as a JSON Schema for editors."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from itertools import chain
from typing import Any

from cnntrain.config.schema import Config
from cnntrain.config.spec import KIND
from cnntrain.errors import UsageError
from cnntrain.network.activations import NAMES as ACTIVATIONS
from cnntrain.registry import ALL, Entry, Registry
from cnntrain.reports.settings import settings
from cnntrain.strict import did_you_mean

REFERENCE = "#/$defs/{model}"


def describe(registries: Iterable[Registry], name: str | None = None) -> str:
    """Each name with its arguments, each activation, each key; with `name`, all that is written about it."""
    listed = list(registries)
    if name is None:
        return "\n\n".join([*map(_section, listed), f"activations:\n  {', '.join(ACTIVATIONS)}", _keys()])
    found = [
        f"{_signature(registry[name])}\n\n{inspect.getdoc(registry[name].factory)}"
        for registry in listed
        if name in set(registry)
    ]
    if name in ACTIVATIONS:
        found.append(f"{name}\n\nOne of torch's activations: a layer's `activation`, or a layer: activation: {name}")
    # A key by its path, or by its last word.
    found += [f"{shown}\n\n{text}" for path, shown, text in _settings() if name in (path, path.rpartition(".")[2])]
    if not found:
        known = {
            *chain(*listed),
            *ACTIVATIONS,
            *(word for path, *_ in _settings() for word in (path, path.rpartition(".")[2])),
        }
        raise UsageError(f"nothing is called `{name}`{did_you_mean(name, sorted(known))}")
    return "\n\n".join(found)


def _settings() -> list[tuple[str, str, str]]:
    """(path, path with its default, description) of every key."""
    return [(path, f"{path}: {default}".removesuffix(" "), text) for path, default, text in settings()]


def _keys() -> str:
    return "keys:\n" + "\n".join(f"  {shown}\n      {text}" for _, shown, text in _settings())


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
    schema["properties"]["extends"] = {"type": "string", "description": "another config, relative to this file"}
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
