"""What is printed on stdout for programs to read."""


def print_json(value: object) -> None:
    """One JSON object on stdout; a figure that is not finite, for which JSON has no word, is null."""
    import json

    from pydantic_core import to_jsonable_python

    print(json.dumps(to_jsonable_python(value, inf_nan_mode="null"), allow_nan=False))  # noqa: T201
