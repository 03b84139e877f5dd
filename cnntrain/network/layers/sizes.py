"""Whether a window fits the image that it slides over."""


def check_fits(kernel: tuple[int, int], height: int, width: int, what: str) -> None:
    """Raise `ValueError` where a window is larger than the (padded) image under it."""
    if kernel[0] > height or kernel[1] > width:
        raise ValueError(f"the {what} of {kernel[0]}x{kernel[1]} is larger than the {height}x{width} it slides over")
