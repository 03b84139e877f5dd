"""File, `extends` and overrides to one validated `Config`, with every error at its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cnntrain import registry
from cnntrain.config.document import MAX_DEPTH, Allowance, Document, Place, parse, plain, read, write
from cnntrain.config.schema import ONE_OF, Config, place_of
from cnntrain.errors import ConfigError, Position, Problem
from cnntrain.strict import ABBREVIATED, UNKNOWN_KEY

MAX_FILES = 20
# Of what may be extended: messages show a file's lines, and a stranger's config shall not choose any file.
SUFFIXES = {".yaml", ".yml"}
# Where what the command line says stands.
OVERRIDE = "override"


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the config at `path` and apply `key=value` overrides; raises `ConfigError` with all problems."""
    document = _with_bases(path, (), Allowance())
    _apply_all(document, overrides)
    config = _validate(document)
    # A run must be able to read again what it writes of its config.
    plain(resolved(config), document.position(()))
    return config


def from_resolved(values: dict[str, Any], overrides: Sequence[str] = ()) -> Config:
    """The config that a checkpoint carries, with overrides applied."""
    document = Document(plain(values))
    _apply_all(document, overrides)
    return _validate(document)


def resolved(config: Config) -> dict[str, Any]:
    """All values of a config, defaults filled in, as plain data that `from_resolved` takes."""
    return config.model_dump(mode="json", exclude_none=True)


def up_to_date(values: dict[str, Any]) -> dict[str, Any]:
    """A resolved config with the keys that have come since it was written; as it is where it isn't understood."""
    try:
        return resolved(from_resolved(values))
    except ConfigError:
        return values


def to_yaml(config: Config) -> str:
    """The resolved config as a file that `load` takes."""
    return write(resolved(config))


def _validate(document: Document) -> Config:
    try:
        config = Config.model_validate(document.value)
    except ValidationError as error:
        found = [document.problem(e["loc"], _message(e, document.value)) for e in error.errors()]
        raise ConfigError(sorted(found, key=_reading_order)) from error
    config._document = document
    return config


def _message(error: ErrorDetails, config: dict[str, Any]) -> str:
    """What an error says, and of a key that stands in the wrong place, where it belongs."""
    key = str(error["loc"][-1]) if error["type"] == UNKNOWN_KEY else ""
    place = key and place_of(ABBREVIATED.get(key, key), config)
    if not place:
        return error["msg"]
    return f"unknown key `{key}`; " + (f"did you mean `{place}`?" if "." in place else "it belongs to the top level")


def _reading_order(found: Problem) -> tuple[str, int, int]:
    where = found.position
    return (where.file, where.line, where.column) if where else ("", 0, 0)


def _with_bases(path: Path, above: tuple[Path, ...], allowance: Allowance) -> Document:
    document = read(path, allowance)
    name = document.value.pop("extends", None)
    if name is None:
        return document
    where = document.position(("extends",))
    base = path.parent / str(name)
    if not isinstance(name, str) or not _is_file(base):
        raise ConfigError([Problem(f"`extends`: there is no file {base}", where)])
    if base.resolve().suffix not in SUFFIXES:
        raise ConfigError([Problem(f"`extends` must name a file that ends in .yaml or .yml, not {base}", where)])
    above = (*above, path.resolve())
    if base.resolve() in above:
        raise ConfigError([Problem(f"`extends` goes round in a circle through {name}", where)])
    if len(above) > MAX_FILES:
        raise ConfigError([Problem(f"`extends` leads through more than {MAX_FILES} files", where)])
    below = _with_bases(base, above, allowance)
    return _merge(below, document)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL in it
        return False


def _merge(base: Document, top: Document) -> Document:
    replaced: set[Place] = set()

    def put(target: dict[str, Any], values: dict[str, Any], place: Place) -> None:
        for key, value in values.items():
            here = (*place, key)
            old = target.get(key)
            joins = isinstance(old, dict) and isinstance(value, dict)
            if joins and not (here in ONE_OF and set(old or ()) != set(value)):
                put(target[key], value, here)
            else:
                replaced.add(here)
                target[key] = value

    put(base.value, top.value, ())
    kept = {
        place: position
        for place, position in base.places.items()
        if not any(place[:length] in replaced for length in range(1, len(place) + 1))
    }
    return Document(base.value, kept | top.places)


def _forget(document: Document, place: Place) -> None:
    document.places = {p: q for p, q in document.places.items() if p[: len(place)] != place}


def _apply_all(document: Document, overrides: Sequence[str]) -> None:
    """Apply them in their order; raises `ConfigError` where one undoes another, and not just says its key again."""
    for index, override in enumerate(overrides):
        # A config may be called `override`, too.
        earlier = {p: q for p, q in document.places.items() if q.file == OVERRIDE and q.text in overrides[:index]}
        _apply(document, override)
        key = override.partition("=")[0]
        for place, position in earlier.items():
            if document.places.get(place) != position and position.text.partition("=")[0] != key:
                said = f"override `{override}`: takes the place of `{position.text}`; leave out one of them"
                raise ConfigError([Problem(said)])


def _apply(document: Document, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError([Problem(f"override `{override}`: write it as key=value, as in training.epochs=5")])
    value = parse(text, OVERRIDE).value
    place: Place = tuple(int(part) if re.fullmatch("[0-9]{1,9}", part) else part for part in key.split("."))
    where = Position(OVERRIDE, 1, len(key) + 2, override)
    if len(place) > MAX_DEPTH:
        raise ConfigError([Problem(f"an override's key has at most {MAX_DEPTH} parts", where)])
    holder = _holder(document, place, override, where)
    last = place[-1]
    if isinstance(holder, list) and not (isinstance(last, int) and last < len(holder)):
        raise ConfigError([Problem(f"override `{override}`: {_list_help(place, holder)}")])
    key_of = last if isinstance(holder, list) else str(last)
    place = (*place[:-1], key_of)
    _forget(document, place)
    document.places[place] = where
    holder[key_of] = value


def _holder(document: Document, place: Place, override: str, where: Position) -> Any:
    """The mapping or list that holds the last part of `place`, made where it is missing."""
    here = document.value
    for depth, part in enumerate(place[:-1], start=1):
        if isinstance(here, list):
            if not (isinstance(part, int) and part < len(here)):
                raise ConfigError([Problem(f"override `{override}`: {_list_help(place[:depth], here)}")])
            inner = here[part]
        else:
            part = str(part)
            inner = here.get(part)
        following = str(place[depth])
        names = {inner} if isinstance(inner, str) else set(inner) if isinstance(inner, dict) else {following}
        is_other = place[:depth] in ONE_OF and following not in names
        if is_other:
            _check_argument(document, place[:depth], following, override)
        if inner is None or is_other:
            _forget(document, place[:depth])
            document.places[place[:depth]] = where
            inner = here[part] = {}
        elif inner == following:
            inner = here[part] = {inner: {}}
        if not isinstance(inner, dict | list) and (argument := _alone(part)):
            inner = here[part] = {argument: inner}
        if not isinstance(inner, dict | list):
            name = ".".join(map(str, place[:depth]))
            raise ConfigError([Problem(f"override `{override}`: `{name}` is {inner!r}, which has no parts")])
        here = inner
    return here


def _check_argument(document: Document, place: Place, name: str, override: str) -> None:
    """Raise `ConfigError` where a choice is to be replaced by what is an argument of it."""
    meant = place_of(ABBREVIATED.get(name, name), document.value)
    if meant.startswith(".".join(map(str, place)) + "."):
        raise ConfigError([Problem(f"override `{override}`: did you mean `{meant}`?")])


def _alone(name: int | str) -> str | None:
    """The argument that is given where a registered name has a value alone: `max_pool: 2` is its `kernel_size`."""
    return next((kind[name].first for kind in registry.ALL.values() if isinstance(name, str) and name in kind), None)


def _list_help(place: Place, items: list[Any]) -> str:
    name = ".".join(map(str, place[:-1]))
    return f"`{name}` has items 0 to {len(items) - 1}, no `{place[-1]}`" if items else f"`{name}` is empty"
