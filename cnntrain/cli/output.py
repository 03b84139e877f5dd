"""What is printed on stdout for programs to read."""

import math


def print_json(value: object) -> None:
    """One JSON object on stdout; a figure that is not finite, for which JSON has no word, is null."""
    import json

    print(json.dumps(_finite(value), allow_nan=False))  # noqa: T201


def _finite(value: object) -> object:
    # pydantic can do it too, but for a path that is not UTF-8.
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
