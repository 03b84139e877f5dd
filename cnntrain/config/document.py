"""YAML text to plain values, with the place in the file of every one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cnntrain.errors import ConfigError, Position, Problem
from cnntrain.files import read_bytes
from cnntrain.text import is_printable

Place = tuple[int | str, ...]

MAX_BYTES = 200_000
MAX_VALUES = 4_000
MAX_DEPTH = 60
MAX_TEXT = 4_000
MAX_DIGITS = 40


class _TooMuch(yaml.MarkedYAMLError):
    """YAML, but none of a config."""


@dataclass
class Allowance:
    """What one config may consist of, with all the files that it extends; no honest one comes near.

    `nodes` are keys and values as they are composed, `values` those that are read: an alias is composed once, and
    read wherever it stands.
    """

    bytes: int = MAX_BYTES
    nodes: int = 2 * MAX_VALUES
    values: int = 2 * MAX_VALUES

    def compose(self, depth: int, mark: yaml.Mark | None) -> None:
        """Compose one node; raises `_TooMuch` where it is one too many, or too deep."""
        self.nodes -= 1
        self._check(self.nodes, depth, mark)

    def read(self, depth: int, mark: yaml.Mark | None) -> None:
        """Read one value; raises `_TooMuch` where it is one too many, or too deep."""
        self.values -= 1
        self._check(self.values, depth, mark)

    def _check(self, left: int, depth: int, mark: yaml.Mark | None) -> None:
        if left < 0 or depth > MAX_DEPTH:
            what = f"more than {MAX_VALUES:,} values" if left < 0 else "values are nested too deeply"
            raise _TooMuch(problem=what, problem_mark=mark)


@dataclass
class Document:
    """Values and their places: `places[("training", "epochs")]` is where that key stands."""

    value: Any
    places: dict[Place, Position] = field(default_factory=dict)

    def problem(self, place: Place, message: str) -> Problem:
        """What is wrong with the value at `place`; by its dotted path where the file does not have it."""
        position = self.position(place)
        return Problem(message if position else f"{'.'.join(map(str, place))}: {message}", position)

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
    """YAML 1.2's core scalars, in decimals alone: `1e-3` is a number, `no` and `2026-01-01` are strings."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, text: str, allowance: Allowance) -> None:
        super().__init__(text)
        self.allowance = allowance
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Stop at too many nodes: the rest of a large file would only take time."""
        self.depth += 1
        self.allowance.compose(self.depth - 1, parent.start_mark if parent else None)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def fetch_directive(self) -> None:
        """Stop at too many of these, too, which make no nodes."""
        self.allowance.compose(0, self.get_mark())
        super().fetch_directive()


class _Dumper(yaml.SafeDumper):
    """Quotes a string that our reader, or one of YAML 1.1, would take for something else: "1e3", "no"."""


_NUMBER = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan"
_SCALARS = {
    "null": (re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"[-+]?[0-9]+(_[0-9]+)*$"), list("-+0123456789")),
    "float": (re.compile(rf"({_NUMBER})$"), list("-+.0123456789")),
}
_TAG = "tag:yaml.org,2002:"
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, _first)
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, _first)


class _Reader:
    """Turns the nodes of one file into values, collecting places and problems."""

    def __init__(self, text: str, file: str, allowance: Allowance) -> None:
        self.file = file
        self.lines = text.splitlines()
        self.allowance = allowance
        self.places: dict[Place, Position] = {}
        self.problems: list[Problem] = []

    def position(self, mark: yaml.Mark) -> Position:
        text = self.lines[mark.line] if mark.line < len(self.lines) else ""
        return Position(self.file, mark.line + 1, mark.column + 1, text)

    def refuse(self, message: str, mark: yaml.Mark) -> None:
        self.problems.append(Problem(message, self.position(mark)))

    def read(self, node: yaml.Node, place: Place) -> Any:
        self.allowance.read(len(place), node.start_mark)
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
            elif fault := _fault(key):
                self.refuse(fault, key_node.start_mark)
            elif key in values:
                first = self.places[(*place, key)].line
                self.refuse(f"`{key}` is given twice; it is already in line {first}", key_node.start_mark)
            else:
                self.places[(*place, key)] = self.position(key_node.start_mark)
                values[key] = self.read(value_node, (*place, key))
        return values

    def _scalar(self, node: yaml.Node) -> Any:
        text, tag = node.value, node.tag.removeprefix(_TAG)
        # A tag may be written out before something that it does not stand for: `!!int [1]`, `!!bool yes`.
        if not isinstance(node, yaml.ScalarNode) or (tag in _SCALARS and not _SCALARS[tag][0].match(text)):
            tag = ""
        fault = _fault(text) if isinstance(text, str) else ""
        if fault:
            self.refuse(fault, node.start_mark)
            return None
        digits = sum(map(str.isdigit, text)) if tag == "int" else 0
        if digits > MAX_DIGITS:
            self.refuse(f"a number of {digits:,} digits; the limit in a config is {MAX_DIGITS}", node.start_mark)
            return None
        match tag:
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text)
            case "float":
                return float(text.replace(".inf", "inf").replace(".nan", "nan"))
            case "str":
                return text
        self.refuse(f"a config holds plain values only, no `{node.tag}`", node.start_mark)
        return None


def _fault(text: str) -> str:
    """What is wrong with a piece of text, or nothing."""
    if len(text) > MAX_TEXT:
        return f"a text of {len(text):,} characters; the limit in a config is {MAX_TEXT:,}"
    return "" if is_printable(text) else f"a config must not contain control characters, but {text!a} does"


def parse(text: str, file: str, allowance: Allowance | None = None) -> Document:
    """Read YAML; raises `ConfigError` with all problems found."""
    allowance = allowance or Allowance()
    reader = _Reader(text, file, allowance)
    try:
        node = _Loader(text, allowance).get_single_node()
        value = None if node is None else reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        where = reader.position(mark) if mark else None
        message = reason if isinstance(error, _TooMuch) else f"not YAML: {reason}"
        raise ConfigError([Problem(message, where)]) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position].split("\n")
        where = Position(file, len(before), len(before[-1]) + 1, before[-1])
        raise ConfigError([Problem(f"not YAML: the character {error.character:#x} may not be in it", where)]) from error
    if reader.problems:
        raise ConfigError(reader.problems)
    return Document(value, reader.places)


def plain(values: Any, where: Position | None = None) -> Any:
    """A copy of plain values within the bounds of a config, wherever they come from.

    Raises `ConfigError`. What a checkpoint holds may share its parts, and so be far larger than its file.
    """
    left = MAX_VALUES

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise ConfigError(
                [Problem("with all defaults filled in, it has too many or too deeply nested values", where)]
            )
        if isinstance(value, dict):
            return {copy(key, depth): copy(inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, list):
            return [copy(inner, depth + 1) for inner in value]
        is_number = isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**MAX_DIGITS)
        if value is None or is_number or (isinstance(value, str) and not _fault(value)):
            return value
        raise ConfigError([Problem(f"a config holds plain values only, no such {type(value).__name__}", where)])

    return copy(values, 0)


def write(values: dict[str, Any]) -> str:
    """The YAML that `parse` makes `values` of."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, width=120, default_flow_style=None)
    return text


def read(path: Path, allowance: Allowance | None = None) -> Document:
    """Read a config file, whose top level must be a mapping."""
    allowance = allowance or Allowance()
    try:
        content = read_bytes(path, allowance.bytes)
        allowance.bytes -= len(content)
        text = content.decode("utf-8")
    except FileNotFoundError as error:
        raise ConfigError([Problem(f"{path}: there is no such file")]) from error
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8").split("\n")
        where = Position(str(path), len(before), len(before[-1]) + 1, before[-1])
        raise ConfigError([Problem("not a text file in UTF-8", where)]) from error
    except (OSError, ValueError) as error:
        inside = path / "config.yaml"
        hint = f"; did you mean {inside}?" if isinstance(error, IsADirectoryError) and inside.is_file() else ""
        said = getattr(error, "strerror", None) or error
        raise ConfigError([Problem(f"{path}: {said}; that is no config{hint}")]) from error
    document = parse(text, str(path), allowance)
    start = Position(str(path), 1, 1, "")
    if document.value is None:
        raise ConfigError([Problem("the config is empty; it needs at least `network:`", start)])
    if not isinstance(document.value, dict):
        raise ConfigError([Problem("a config is a mapping of keys to values", document.position(()))])
    return document
