"""The strict pydantic base of everything read from a config, and the wording of its errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Any, LiteralString

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

# Sizes and counts: what torch takes as one, with room to multiply a few.
PositiveInt = Annotated[int, Field(gt=0, lt=2**31)]
NonNegativeInt = Annotated[int, Field(ge=0, lt=2**31)]
# What is a number in float32 too.
LARGEST = 3e38
PositiveFloat = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, lt=1)]


def _two(sides: list[int]) -> list[int]:
    if len(sides) != 2:
        raise PydanticCustomError("length_type", "Input should be a list of two")
    return sides


_Two = AfterValidator(_two), Field(json_schema_extra={"minItems": 2, "maxItems": 2})
# One number for both directions, or [height, width].
Size = PositiveInt | Annotated[list[PositiveInt], *_Two]
Border = NonNegativeInt | Annotated[list[NonNegativeInt], *_Two]


def pair(size: int | list[int]) -> tuple[int, int]:
    """(height, width) of a size."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def did_you_mean(wrong: str, known: Sequence[str]) -> str:
    """The end of a sentence that names the nearest of `known`, or all of them."""
    near = nearest(wrong, tuple(known))
    if near:
        return f"; did you mean `{near}`?"
    return f"; known: {', '.join(sorted(known))}" if known else ""


# What other programs call them.
ABBREVIATED = {"lr": "learning_rate", "wd": "weight_decay"}


# A name is often wrong wherever it stands.
@lru_cache
def nearest(wrong: str, known: tuple[str, ...]) -> str:
    """The one of `known` that `wrong` was most likely meant to be, or nothing."""
    if ABBREVIATED.get(wrong) in known:
        return ABBREVIATED[wrong]
    by_letters = {name.lower(): name for name in known}
    near = get_close_matches(wrong.lower(), by_letters, n=1)
    return by_letters[near[0]] if near else ""


# The types of errors that are worded already: of a key that a section does not have, and of all else.
UNKNOWN_KEY, WORDED = "cnntrain unknown key", "cnntrain"


def problem(
    message: str, location: Sequence[int | str] = (), value: object = None, kind: LiteralString = WORDED
) -> InitErrorDetails:
    """One error with a message of ours, at a place below the value that is being validated."""
    # pydantic fills `{name}` in a template; a message that quotes the user's text must pass as it is.
    error = PydanticCustomError(kind, "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=tuple(location), input=value)


def problems(error: ValidationError, prefix: Sequence[int | str] = ()) -> list[InitErrorDetails]:
    """The errors inside `error`, worded by us, at places below `prefix`."""
    return [problem(_wording(e), (*prefix, *e["loc"]), e["input"]) for e in error.errors(include_url=False)]


def raise_all(title: str, found: Iterable[InitErrorDetails]) -> None:
    """Raise one `ValidationError` for all that was found, or return if there is nothing."""
    details = list(found)
    if details:
        raise ValidationError.from_exception_data(title, details)


def _wording(error: ErrorDetails) -> str:
    name = str(error["loc"][-1]) if error["loc"] else "value"
    match error["type"]:
        case "missing":
            return f"`{name}` is missing"
        case kind if kind in (WORDED, UNKNOWN_KEY):
            return error["msg"]
        case "model_type" | "dict_type":
            return f"`{name}` takes a mapping, not {short(error['input'])}"
    said = _expectation(error)
    return (
        f"`{name}` should {said}, not {short(error['input'])}" if said else error["msg"].removeprefix("Value error, ")
    )


def _expectation(error: ErrorDetails) -> str:
    """What pydantic expected, as the words after "should"."""
    if error["type"] == "value_error":
        return ""
    _, _, said = error["msg"].partition(" should ")
    said, _, _ = said.partition(" after validation")
    return said.replace("a valid integer", "an integer").replace("valid ", "")


def _join_alternatives(error: ValidationError, data: dict[Any, Any]) -> list[InitErrorDetails]:
    """Like `problems`, but the branches of a union over one value make one problem, not one each."""
    found: list[InitErrorDetails] = []
    branches: dict[str, list[ErrorDetails]] = {}
    for e in error.errors(include_url=False):
        if len(e["loc"]) == 2 and _is_branch(e, data.get(e["loc"][0])):
            branches.setdefault(str(e["loc"][0]), []).append(e)
        else:
            kind: LiteralString = UNKNOWN_KEY if e["type"] == UNKNOWN_KEY else WORDED
            found.append(problem(_wording(e), e["loc"], e["input"], kind))
    reported = {e["loc"][0] for e in found}
    for name, alternatives in branches.items():
        if name in reported:  # another branch takes a value of this kind, and says what is wrong inside it
            continue
        said = " or ".join(dict.fromkeys(_expectation(e) for e in alternatives))
        found.append(problem(f"`{name}` should {said}, not {short(data[name])}", (name,), data[name]))
    return found


def _is_branch(error: ErrorDetails, value: object) -> bool:
    """Whether `error` says that `value` as a whole is not what one branch of a union takes."""
    if not isinstance(value, dict | list):
        return error["type"] not in (WORDED, UNKNOWN_KEY)
    return error["input"] is value and error["type"].endswith(("_type", "literal_error"))


def short(value: object) -> str:
    """How a message shows a value."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class Strict(BaseModel):
    """Frozen, no coercion, no unknown keys; all errors of a mapping are reported together."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="wrap")
    @classmethod
    def _report_unknown_keys_too(cls, data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        if not isinstance(data, dict):
            return handler(data)
        known = list(cls.model_fields)
        found = [
            problem(f"unknown key `{key}`{did_you_mean(str(key), known)}", (str(key),), kind=UNKNOWN_KEY)
            for key in data
            if key not in known
        ]
        try:
            made = handler({key: value for key, value in data.items() if key in known})
        except ValidationError as error:
            found += _join_alternatives(error, data)
        raise_all(cls.__name__, found)
        return made
