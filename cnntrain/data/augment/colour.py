"""Light and contrast."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cnntrain.data.augment.geometry import Augmentation
from cnntrain.registry import augmentations

if TYPE_CHECKING:
    from torch import Tensor

Amount = Annotated[float, Field(gt=0, le=1)]


@augmentations.register("brightness")
def brightness(amount: Amount = 0.2) -> Augmentation:
    """Add one number, drawn uniformly from +-`amount`, to all pixels of an image; clipped to 0..1."""

    def apply(images: "Tensor") -> "Tensor":
        return (images + amount * _even(images)).clamp_(0, 1)

    return apply


@augmentations.register("contrast")
def contrast(amount: Amount = 0.2) -> Augmentation:
    """Stretch each image around its mean by a factor drawn uniformly from 1 +- `amount`; clipped to 0..1."""

    def apply(images: "Tensor") -> "Tensor":
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return (mean + (images - mean) * (1 + amount * _even(images))).clamp_(0, 1)

    return apply


def _even(images: "Tensor") -> "Tensor":
    """One number in -1..1 for each image."""
    import torch

    return torch.rand(len(images), 1, 1, 1, device=images.device) * 2 - 1
