"""The keys of a config as text: each by its dotted path, with its default, what it takes, and what it does."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cnntrain.config.schema import Config
from cnntrain.strict import Strict


def settings(model: type[Strict] = Config, within: str = "") -> Iterator[tuple[str, str, str]]:
    """(dotted path, default as YAML or nothing, description) of every key, the keys of a section after its own."""
    for name, field in model.model_fields.items():
        path, section = f"{within}{name}", _section(field.annotation)
        yield path, _default(field), _description(field, section)
        if section:
            yield from settings(section, f"{path}.")


def _section(annotation: Any) -> type[Strict] | None:
    """The model of a key that holds keys of its own; it may also be absent."""
    parts = [annotation, *get_args(annotation)]
    parts += [inner for part in parts[1:] for inner in get_args(part)]
    return next((part for part in parts if inspect.isclass(part) and issubclass(part, Strict)), None)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return ""
    return field.default if isinstance(field.default, str) else json.dumps(field.default)


def _description(field: FieldInfo, section: type[Strict] | None) -> str:
    text = field.description or (inspect.getdoc(section) if section else None) or ""
    choices = choices_of(field.annotation)
    return text + (f" ({', '.join(choices)})" if choices else "")


def choices_of(annotation: Any) -> list[Any]:
    """The words of which a value is one, if nothing else can be it; it may be absent."""
    parts = [annotation] if get_origin(annotation) is Literal else get_args(annotation)
    if not all(part is NoneType or get_origin(part) is Literal for part in parts):
        return []
    return [choice for part in parts for choice in get_args(part)]
