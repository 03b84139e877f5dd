"""YAML text to plain values, with the place in the file of every one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cnntrain.errors import ConfigError, Position, Problem

Place = tuple[int | str, ...]

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 60


@dataclass
class Document:
    """Values and their places: `places[("training", "epochs")]` is where that key stands."""

    value: Any
    places: dict[Place, Position] = field(default_factory=dict)

    def position(self, place: Place) -> Position | None:
        """The position of `place`, or of the nearest thing around it."""
        here: Place = ()
        for part, following in zip(place, (*place[1:], ""), strict=False):
            # `branches: [[...]]` is short for `branches: {branches: [[...]]}`: the name is not in the file.
            is_unwritten = (*here, part) not in self.places and (*here, following) in self.places
            if not (isinstance(following, int) and is_unwritten):
                here = (*here, part)
        for length in range(len(here), -1, -1):
            if here[:length] in self.places:
                return self.places[here[:length]]
        return None


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core scalars: `1e-3` is a number, `no` and `2026-01-01` are strings."""

    yaml_implicit_resolvers: dict[str, Any] = {}
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Stop at too many nodes: the rest of a large file would only take time."""
        self.nodes += 1
        if self.nodes > 2 * MAX_VALUES:
            mark = parent.start_mark if parent else None
            raise yaml.MarkedYAMLError(problem=f"more than {2 * MAX_VALUES:,} keys and values", problem_mark=mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes a string that our reader, or one of YAML 1.1, would take for something else: "1e3", "no"."""


_NUMBER = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan"
_SCALARS = {
    "null": (re.compile(r"(~|null|)$"), ["~", "n", ""]),
    "bool": (re.compile(r"(true|false)$"), list("tf")),
    "int": (re.compile(r"[-+]?[0-9]+(_[0-9]+)*$"), list("-+0123456789")),
    "float": (re.compile(rf"({_NUMBER})$"), list("-+.0123456789")),
}
_TAG = "tag:yaml.org,2002:"
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, _first)
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, _first)


class _Reader:
    """Turns the nodes of one file into values, collecting places and problems."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.lines = text.splitlines()
        self.places: dict[Place, Position] = {}
        self.problems: list[Problem] = []
        self.count = 0

    def position(self, mark: yaml.Mark) -> Position:
        text = self.lines[mark.line] if mark.line < len(self.lines) else ""
        return Position(self.file, mark.line + 1, mark.column + 1, text)

    def refuse(self, message: str, mark: yaml.Mark) -> None:
        self.problems.append(Problem(message, self.position(mark)))

    def read(self, node: yaml.Node, place: Place) -> Any:
        self.count += 1
        if self.count > MAX_VALUES or len(place) > MAX_DEPTH:
            raise ConfigError([Problem("too many or too deeply nested values", self.position(node.start_mark))])
        self.places.setdefault(place, self.position(node.start_mark))
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.read(child, (*place, index)) for index, child in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.removeprefix(_TAG) not in ("str", *_SCALARS):
                self.refuse("a key must be a plain word", key_node.start_mark)
            elif key in values:
                first = self.places[(*place, key)].line
                self.refuse(f"`{key}` is given twice; it stands already in line {first}", key_node.start_mark)
            else:
                self.places[(*place, key)] = self.position(key_node.start_mark)
                values[key] = self.read(value_node, (*place, key))
        return values

    def _scalar(self, node: yaml.Node) -> Any:
        text, tag = node.value, node.tag.removeprefix(_TAG)
        # A tag may be written out before something that it does not stand for: `!!int [1]`, `!!bool yes`.
        if not isinstance(node, yaml.ScalarNode) or (tag in _SCALARS and not _SCALARS[tag][0].match(text)):
            tag = ""
        match tag:
            case "null":
                return None
            case "bool":
                return text == "true"
            case "int" if len(text) <= 40:
                return int(text)
            case "float":
                return float(text.replace(".inf", "inf").replace(".nan", "nan"))
            case "str":
                return text
        self.refuse(f"a config holds plain values only, no `{node.tag}`", node.start_mark)
        return None


def parse(text: str, file: str) -> Document:
    """Read YAML; raises `ConfigError` with all problems found."""
    reader = _Reader(text, file)
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = None if node is None else reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        where = reader.position(mark) if mark else None
        raise ConfigError([Problem(f"not YAML: {reason}", where)]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError([Problem(f"{file}: not YAML: {reason}")]) from error
    if reader.problems:
        raise ConfigError(reader.problems)
    return Document(value, reader.places)


def write(values: dict[str, Any]) -> str:
    """The YAML that `parse` makes `values` of."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, width=120, default_flow_style=None)
    return text


def read(path: Path) -> Document:
    """Read a config file, whose top level must be a mapping."""
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise ConfigError([Problem(f"{path}: larger than {MAX_BYTES:,} bytes; that is no config")])
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError([Problem(f"{path}: there is no such file")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(f"{path}: not a text file in UTF-8")]) from error
    except (OSError, ValueError) as error:
        raise ConfigError([Problem(f"{path}: {getattr(error, 'strerror', None) or error}")]) from error
    document = parse(text, str(path))
    if document.value is None:
        raise ConfigError([Problem(f"{path}: the config is empty; it needs at least `network:`")])
    if not isinstance(document.value, dict):
        raise ConfigError([Problem("a config is a mapping of keys to values", document.position(()))])
    return document
