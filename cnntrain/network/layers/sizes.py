"""Whether a window fits the image that it slides over, and how large the image is that it makes."""


def check_fits(kernel: tuple[int, int], height: int, width: int, what: str) -> None:
    """Raise `ValueError` where a window is larger than the (padded) image under it."""
    if kernel[0] > height or kernel[1] > width:
        raise ValueError(f"the {what} of {kernel[0]}x{kernel[1]} is larger than the {height}x{width} it slides over")


def output_size(side: int, padding: int, extent: int, stride: int) -> int:
    """How many places a window of `extent` has along a side; torch's formula for convolution and pooling."""
    return (side + 2 * padding - extent) // stride + 1
