"""The one registry: a name in a config stands for a factory whose typed signature is its schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import create_model

from cnntrain.strict import ABBREVIATED, Strict, did_you_mean

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Entry:
    """A registered factory. Its positional-only parameters come from the program, the others from the config."""

    name: str
    factory: Factory

    @cached_property
    def arguments(self) -> type[Strict]:
        """The model that a config's arguments are checked against."""
        parameters = inspect.signature(self.factory).parameters.values()
        fields: dict[str, Any] = {
            parameter.name: (
                parameter.annotation,
                ... if parameter.default is parameter.empty else parameter.default,
            )
            for parameter in parameters
            if parameter.kind is not parameter.POSITIONAL_ONLY
        }
        return create_model(
            self.name, __base__=Strict, __module__=self.factory.__module__, __doc__=self.summary, **fields
        )

    @property
    def first(self) -> str | None:
        """The argument that a config may give alone, as in `max_pool: 2`."""
        return next(iter(self.arguments.model_fields), None)

    @property
    def summary(self) -> str:
        """The first sentence of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n\n")[0].replace("\n", " ")


def _lacks_type(parameter: inspect.Parameter) -> bool:
    """Whether a config gives it, but nothing says of which type it is."""
    return parameter.kind is not parameter.POSITIONAL_ONLY and parameter.annotation is parameter.empty


class Registry:
    """Names of one kind (`layer`, `optimizer`, ...) and what they stand for."""

    def __init__(self, kind: str, given: str = "") -> None:
        self.kind = kind
        # What the program gives a factory.
        self.given = given
        self._entries: dict[str, Entry] = {}

    def register(self, name: str) -> Callable[[Factory], Factory]:
        """Register the decorated factory; a name that is taken raises `ValueError`."""

        def decorate(factory: Factory) -> Factory:
            if name in self._entries:
                taken = self._entries[name].factory.__module__
                raise ValueError(f"the {self.kind} `{name}` is already registered by {taken}")
            parameters = inspect.signature(factory).parameters.values()
            if self.given and not any(parameter.kind is parameter.POSITIONAL_ONLY for parameter in parameters):
                raise ValueError(
                    f"the {self.kind} `{name}`: its function first takes what the program gives it, before a `/`: "
                    f"`({self.given}, /, ...)`"
                )
            for parameter in parameters:
                if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    raise ValueError(f"the {self.kind} `{name}`: a config can't give `*{parameter.name}`; name each")
                if _lacks_type(parameter):
                    raise ValueError(
                        f"the {self.kind} `{name}`: give its argument `{parameter.name}` a type annotation"
                    )
            self._entries[name] = Entry(name, factory)
            return factory

        return decorate

    def forget(self, module: str) -> None:
        """Drop what a module has registered."""
        self._entries = {name: entry for name, entry in self._entries.items() if entry.factory.__module__ != module}

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            advice = self._argument_of(name) or did_you_mean(name, list(self))
            raise LookupError(f"unknown {self.kind} `{name}`{advice}")
        return self._entries[name]

    def _argument_of(self, name: str) -> str:
        """The end of a sentence that names who takes an argument of that name, if any does."""
        argument = ABBREVIATED.get(name, name)
        return next(
            (f"; it is an argument, as in `{taker}: {{{argument}: ...}}`" for taker in self.takers(argument)), ""
        )

    def takers(self, argument: str) -> Iterator[str]:
        """The names that take an argument of this name."""
        return (name for name in self if argument in self._entries[name].arguments.model_fields)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))


layers = Registry("layer", "given")
initializers = Registry("initializer", "weight, bias, fans")
optimizers = Registry("optimizer", "trainable")
schedules = Registry("schedule", "epochs")
augmentations = Registry("augmentation")
sources = Registry("data source", "folders")

ALL = {registry.kind: registry for registry in (layers, initializers, optimizers, schedules, augmentations, sources)}


def of_plugins(registries: Iterable[Registry] = ALL.values()) -> list[str]:
    """The names that plugins have registered."""
    return [
        name
        for registry in registries
        for name in registry
        if not registry[name].factory.__module__.startswith("cnntrain.")
    ]
