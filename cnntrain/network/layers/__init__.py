"""The layers that a config can name; importing this registers them all."""

from cnntrain.network.layers import blocks, book, convolution, elementwise, flat, normalization, pooling

__all__ = ["blocks", "book", "convolution", "elementwise", "flat", "normalization", "pooling"]
