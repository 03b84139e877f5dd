"""Memory that a step frees and the next one needs again."""

import ctypes
import platform
import sys

# mallopt's names for its settings.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
# As much as mallopt takes.
KEPT = 2**31 - 1


def keep_freed_memory() -> None:
    """Let the C library keep up to two GiB that are freed, in blocks of any size, instead of giving them back.

    By default it gives back what a step frees, and the next step waits until each page is cleared again.
    A setting of the whole process, for glibc; others are left as they are.
    """
    # Elsewhere than on Linux, looking for it may fail.
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        # A block that is mapped by itself is given back as soon as it is freed, however much is to be kept.
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, KEPT)
