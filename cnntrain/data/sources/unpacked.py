"""How much a compressed file may unpack to, asked before it is unpacked."""

from pathlib import Path

from cnntrain.errors import DataError

# Images shrink to a half or a tenth, drawn shapes on black to a hundredth and less (dSprites: 1/113); the best
# that gzip can do is a thousandth, of nothing but zeros.
RATIO = 300
SMALL = 64 * 2**20


def most_bytes(path: Path) -> int:
    """The most that a file's content may be, unpacked: little, or not out of all proportion to the file."""
    return max(SMALL, RATIO * path.stat().st_size)


def check_bytes(path: Path, size: int) -> None:
    """Raise `DataError` for a file that would unpack to `size` bytes, if no honest one would."""
    if size > most_bytes(path):
        packed = path.stat().st_size
        raise DataError(
            f"{path}: refused, because its {packed:,} bytes would unpack to {size:,}, which is unusual for image data; "
            f"if you trust it, unpack it yourself (a .gz by gunzip, an .npz by numpy.savez)"
        )
