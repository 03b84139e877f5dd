"""Sizes of windows: one number for both directions, or [height, width]."""

from typing import Annotated

from pydantic import Field

from cnntrain.strict import NonNegativeInt, PositiveInt

Size = PositiveInt | Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]
Border = NonNegativeInt | Annotated[list[NonNegativeInt], Field(min_length=2, max_length=2)]


def pair(size: int | list[int]) -> tuple[int, int]:
    """(height, width) of a size."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def check_fits(kernel: tuple[int, int], height: int, width: int, what: str) -> None:
    """Raise `ValueError` where a window is larger than the (padded) image under it."""
    if kernel[0] > height or kernel[1] > width:
        raise ValueError(f"the {what} of {kernel[0]}x{kernel[1]} is larger than the {height}x{width} it slides over")
