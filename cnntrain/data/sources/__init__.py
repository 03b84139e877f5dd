"""The data sources that a config can name; importing this registers them all."""

from cnntrain.data.sources import arrays, cifar, digits, folders, idx, pickles

__all__ = ["arrays", "cifar", "digits", "folders", "idx", "pickles"]
