"""The registry: a name stands for a factory, whose signature is the schema of its arguments."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from cnntrain import registry
from cnntrain.registry import Registry


@pytest.fixture
def animals():
    animals = Registry("animal")

    @animals.register("cat")
    def cat(place, /, lives: Annotated[int, Field(gt=0)] = 9, mood: Literal["good", "bad"] = "bad"):
        """A cat
        in two lines.

        And more about it.
        """
        return place, lives, mood

    @animals.register("camel")
    def camel(place, /, humps: int):
        return place, humps

    @animals.register("ant")
    def ant(place, /):
        """An ant."""
        return place

    return animals


def messages(entry, arguments):
    with pytest.raises(ValidationError) as caught:
        entry.arguments.model_validate(arguments)
    return [error["msg"] for error in caught.value.errors()]


def test_names_are_listed_in_order(animals):
    assert list(animals) == ["ant", "camel", "cat"]
    assert "cat" in set(animals)


def test_registering_gives_the_factory_back(animals):
    def dog(place, /):
        return place

    assert animals.register("dog")(dog) is dog
    assert animals["dog"].factory is dog


def test_a_name_taken_twice(animals):
    def other(place, /):
        return place

    with pytest.raises(ValueError, match=rf"the animal `cat` is already registered by {__name__}"):
        animals.register("cat")(other)
    assert animals["cat"].factory is not other


def test_an_unknown_name_near_a_known_one(animals):
    with pytest.raises(LookupError) as caught:
        animals["camle"]
    assert caught.value.args == ("unknown animal `camle`; did you mean `camel`?",)


def test_an_unknown_name_near_nothing(animals):
    with pytest.raises(LookupError) as caught:
        animals["zebra"]
    assert caught.value.args == ("unknown animal `zebra`; known: ant, camel, cat",)


def test_an_unknown_name_in_an_empty_registry():
    with pytest.raises(LookupError) as caught:
        Registry("ghost")["boo"]
    assert caught.value.args == ("unknown ghost `boo`",)


def test_arguments_are_those_of_the_config(animals):
    assert list(animals["cat"].arguments.model_fields) == ["lives", "mood"]
    assert list(animals["ant"].arguments.model_fields) == []


def test_defaults(animals):
    arguments = animals["cat"].arguments.model_validate({})
    assert (arguments.lives, arguments.mood) == (9, "bad")


def test_first_argument(animals):
    assert [animals[name].first for name in ("cat", "camel", "ant")] == ["lives", "humps", None]


def test_summary(animals):
    assert animals["cat"].summary == "A cat in two lines."
    assert animals["camel"].summary == ""


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("cat", {"livs": 3}, ["unknown key `livs`; did you mean `lives`?"]),
        ("cat", {"place": 3}, ["unknown key `place`; known: lives, mood"]),
        ("cat", {"lives": 0}, ["`lives` should be greater than 0, not 0"]),
        ("cat", {"lives": "9"}, ["`lives` should be an integer, not '9'"]),
        ("cat", {"lives": True}, ["`lives` should be an integer, not True"]),
        ("cat", {"lives": 9.0}, ["`lives` should be an integer, not 9.0"]),
        ("cat", {"mood": "fine"}, ["`mood` should be 'good' or 'bad', not 'fine'"]),
        ("camel", {}, ["`humps` is missing"]),
        ("camel", {"hump": 1}, ["unknown key `hump`; did you mean `humps`?", "`humps` is missing"]),
        ("ant", {"legs": 6}, ["unknown key `legs`"]),
    ],
)
def test_wrong_arguments(animals, name, arguments, expected):
    assert messages(animals[name], arguments) == expected


def test_arguments_are_frozen(animals):
    arguments = animals["cat"].arguments.model_validate({})
    with pytest.raises(ValidationError):
        arguments.lives = 8


def test_a_kind_has_one_registry():
    assert {kind: one.kind for kind, one in registry.ALL.items()} == {kind: kind for kind in registry.ALL}
    assert list(registry.ALL) == ["layer", "initializer", "optimizer", "schedule", "augmentation", "data source"]


def test_an_argument_without_a_type_is_refused(animals):
    with pytest.raises(ValueError, match=r"^the animal `dog`: give its argument `tail` a type annotation$"):

        @animals.register("dog")
        def dog(place, /, tail=1):
            return place, tail

    assert "dog" not in list(animals)
