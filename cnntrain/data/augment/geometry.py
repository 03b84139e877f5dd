"""Whole images moved, turned, mirrored, or covered in part."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from cnntrain.registry import augmentations
from cnntrain.strict import NonNegativeFloat, PositiveFloat, PositiveInt, Size, pair

if TYPE_CHECKING:
    from torch import Tensor

Augmentation = Callable[["Tensor"], "Tensor"]
Degrees = Annotated[float, Field(ge=0, le=180)]
Tilt = Annotated[float, Field(ge=0, lt=90)]
Stretch = Annotated[float, Field(ge=0, lt=1)]
Chance = Annotated[float, Field(gt=0, le=1)]


def _rising(ends: list[float]) -> list[float]:
    if ends[0] > ends[1]:
        raise PydanticCustomError("range", "Input should begin with the smaller number")
    return ends


_Range = Field(min_length=2, max_length=2), AfterValidator(_rising)
Shares = Annotated[list[Chance], *_Range]
Ratios = Annotated[list[PositiveFloat], *_Range]
# Of a crop, until one fits.
DRAWS = 10


@augmentations.register("shift")
def shift(pixels: PositiveInt = 1) -> Augmentation:
    """Move each image by up to `pixels` whole pixels in both directions; uncovered areas are black."""

    def apply(images: "Tensor") -> "Tensor":
        import torch
        from torch.nn import functional

        count, _, height, width = images.shape
        # What is moved by more than its own side is gone, however far.
        tall, wide = min(pixels, height), min(pixels, width)
        padded = functional.pad(images, [wide, wide, tall, tall])
        down, right = torch.randint(0, 2 * pixels + 1, (2, count), device=images.device) - pixels
        down, right = down.clamp(-tall, tall) + tall, right.clamp(-wide, wide) + wide
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(count, device=images.device), :, down, right]

    return apply


@augmentations.register("flip")
def flip(p: Chance = 0.5, direction: Literal["horizontal", "vertical"] = "horizontal") -> Augmentation:
    """Mirror each image left to right, or upside down, with probability `p`."""

    def apply(images: "Tensor") -> "Tensor":
        import torch

        mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < p
        return torch.where(mirrored, images.flip(3 if direction == "horizontal" else 2), images)

    return apply


@augmentations.register("affine")
def affine(
    degrees: Degrees = 0.0, shear: Tilt = 0.0, translate: NonNegativeFloat = 0.0, scale: Stretch = 0.0
) -> Augmentation:
    """Rotate, skew, move and zoom each image in one bilinear resampling; uncovered areas are black.

    Each is drawn uniformly from its range: the angle and the tilt of the vertical from +-`degrees` and
    +-`shear` degrees, both moves from +-`translate` pixels, the zoom factor from 1 +- `scale`. The image is
    moved first, then rotated and zoomed about the center of the frame.
    """

    def apply(images: "Tensor") -> "Tensor":
        return _resampled(images, _random_maps(images, math.radians(degrees), math.radians(shear), translate, scale))

    return apply


def _resampled(images: "Tensor", maps: "Tensor", beyond: str = "zeros") -> "Tensor":
    """What `maps`, as of `_random_maps`, make of images; `beyond` their edges is what `grid_sample` calls padding."""
    from torch.nn import functional

    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode=beyond, align_corners=False)


def _random_maps(images: "Tensor", angle: float, tilt: float, translate: float, scale: float) -> "Tensor":
    """Maps (batch, 2, 3) from a place in the output to the place in the input, both in -1..1 from edge to edge."""
    import torch

    count, _, height, width = images.shape
    turned, tilted, right, down, zoomed = torch.rand(5, count, device=images.device) * 2 - 1
    factor = 1 / (1 + scale * zoomed)
    cosine, sine = torch.cos(angle * turned) * factor, torch.sin(angle * turned) * factor
    slope = torch.tan(tilt * tilted)
    # Places count in half heights and half widths, so that in an oblong image a turn must change units.
    rows = [
        torch.stack([cosine, (cosine * slope - sine) * (height / width), right * (2 * translate / width)], dim=1),
        torch.stack([sine * (width / height), sine * slope + cosine, down * (2 * translate / height)], dim=1),
    ]
    return torch.stack(rows, dim=1)


@augmentations.register("resized_crop")
def resized_crop(scale: Shares = [0.08, 1.0], ratio: Ratios = [0.75, 1.3333]) -> Augmentation:  # noqa: B006
    """Enlarge a random part of each image to the size of the whole (Szegedy et al. 2015, section 6).

    Its share of the area is drawn uniformly from `scale`, its width by its height, in units of the image's, from
    `ratio`, uniformly by logarithm, until it fits, as in torchvision's RandomResizedCrop; what does not fit after ten
    draws is made smaller.
    """

    def apply(images: "Tensor") -> "Tensor":
        # At the edge a pixel is half outside.
        return _resampled(images, _random_windows(images, scale, ratio), beyond="border")

    return apply


def _random_windows(images: "Tensor", scale: list[float], ratio: list[float]) -> "Tensor":
    """Maps, as of `_random_maps`, to windows within the images."""
    import torch

    area, stretch = torch.rand(2, DRAWS, len(images), device=images.device)
    area = scale[0] + (scale[1] - scale[0]) * area
    stretch = ratio[0] * (ratio[1] / ratio[0]) ** stretch
    wide, tall = (area * stretch).sqrt(), (area / stretch).sqrt()
    first = ((wide <= 1) & (tall <= 1)).int().argmax(0, keepdim=True)
    wide, tall = wide.gather(0, first)[0], tall.gather(0, first)[0]
    over = torch.maximum(wide, tall).clamp(min=1)
    wide, tall, zero = wide / over, tall / over, torch.zeros_like(wide)
    right, down = torch.rand(2, len(images), device=images.device)
    rows = [
        torch.stack([wide, zero, (2 * right - 1) * (1 - wide)], dim=1),
        torch.stack([zero, tall, (2 * down - 1) * (1 - tall)], dim=1),
    ]
    return torch.stack(rows, dim=1)


@augmentations.register("erase")
def erase(size: Size, p: Chance = 1.0) -> Augmentation:
    """With probability `p`, black out a window of `size` at a random place; at the border, only part of it.

    Cutout (DeVries and Taylor 2017), random erasing (Zhong et al. 2020).
    """
    tall, wide = pair(size)

    def apply(images: "Tensor") -> "Tensor":
        import torch

        count, _, height, width = images.shape
        device = images.device
        top = (torch.rand(count, 1, device=device) * height - tall / 2).round()
        left = (torch.rand(count, 1, device=device) * width - wide / 2).round()
        rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
        in_rows = (rows >= top) & (rows < top + tall) & (torch.rand(count, 1, device=device) < p)
        in_columns = (columns >= left) & (columns < left + wide)
        covered = in_rows[:, None, :, None] & in_columns[:, None, None, :]
        return images.masked_fill(covered, 0.0)

    return apply
