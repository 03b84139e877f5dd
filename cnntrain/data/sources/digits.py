"""Real handwritten digits that scikit-learn brings along; nothing is downloaded."""

from cnntrain.data.images import Dataset, Folders, Images
from cnntrain.registry import sources


@sources.register("digits")
def digits(folders: Folders, /) -> Dataset:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998); it has no test split."""
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Sixteen levels of grey in 0..16 become 0..255.
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return Dataset(tuple("0123456789"), Images(pixels, bunch.target.astype(np.int64)))
