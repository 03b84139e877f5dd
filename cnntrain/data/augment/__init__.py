"""Augmentation on the fly: batched, on the device, a transform of its own for each image; importing this registers all.

An augmentation maps images in 0..1 (batch, channels, height, width) to the same shape, with
random numbers from torch's global generator, whose state a checkpoint holds.
"""

from cnntrain.data.augment import colour, elastic, geometry

__all__ = ["colour", "elastic", "geometry"]
