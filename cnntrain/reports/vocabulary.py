"""The registered names as text, and as a JSON Schema for editors."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from cnntrain.config.schema import Config
from cnntrain.config.spec import KIND
from cnntrain.errors import UsageError
from cnntrain.registry import ALL, Entry, Registry
from cnntrain.strict import did_you_mean

REFERENCE = "#/$defs/{model}"


def describe(registries: Iterable[Registry], name: str | None = None) -> str:
    """One line for each name with its arguments; with `name`, all that is written about it."""
    listed = list(registries)
    if name is None:
        return "\n\n".join(_section(registry) for registry in listed)
    found = [registry[name] for registry in listed if name in set(registry)]
    if not found:
        known = [known for registry in listed for known in registry]
        raise UsageError(f"nothing is called `{name}`{did_you_mean(name, known)}")
    return "\n\n".join(f"{_signature(entry)}\n\n{inspect.getdoc(entry.factory)}" for entry in found)


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
