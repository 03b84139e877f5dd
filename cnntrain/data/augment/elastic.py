"""Images pulled like rubber, as the trembling of a hand does to writing."""

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cnntrain.data.augment.geometry import Augmentation
from cnntrain.registry import augmentations
from cnntrain.strict import PositiveFloat

if TYPE_CHECKING:
    from torch import Tensor

Deviation = Annotated[float, Field(gt=0, le=1000)]


@augmentations.register("elastic")
def elastic(alpha: PositiveFloat = 34.0, sigma: Deviation = 4.0) -> Augmentation:
    """Elastic distortion (Simard, Steinkraus, Platt 2003): each pixel is moved by a smooth random field.

    The field is uniform noise in -1..1, smoothed by a Gaussian of standard deviation `sigma` pixels, times
    `alpha` pixels; uncovered areas are black. The defaults are the paper's for MNIST.
    """

    def apply(images: "Tensor") -> "Tensor":
        import torch
        from torch.nn import functional

        from cnntrain.data.constant import constant

        count, _, height, width = images.shape
        noise = torch.rand(2 * count, 1, height, width, device=images.device) * 2 - 1
        moves = alpha * _smooth(noise, sigma).view(count, 2, height, width)
        still = torch.eye(2, 3, device=images.device).expand(count, 2, 3)
        grid = functional.affine_grid(still, list(images.shape), align_corners=False)
        in_halves = constant(((2 / width, 2 / height),), images.device)
        return functional.grid_sample(images, grid + moves.permute(0, 2, 3, 1) * in_halves, align_corners=False)

    return apply


def _smooth(fields: "Tensor", sigma: float) -> "Tensor":
    """Fields (count, 1, height, width) under a Gaussian, one direction after the other; zero outside."""
    import torch
    from torch.nn import functional

    # Beyond three deviations there is nothing to add; beyond the field there is nothing, though it counts.
    whole = math.ceil(3 * sigma)
    reach = min(whole, max(fields.shape[2:]) - 1)
    places = torch.arange(-whole, whole + 1, device=fields.device, dtype=torch.float32)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    weights = (weights / weights.sum())[whole - reach : whole + reach + 1]
    across = functional.conv2d(fields, weights.view(1, 1, 1, -1), padding=(0, reach))
    return functional.conv2d(across, weights.view(1, 1, -1, 1), padding=(reach, 0))
