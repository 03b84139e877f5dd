"""Memory that a step frees and the next one needs again."""

import ctypes
import platform

# mallopt's names for its settings, and values for them: as much as glibc takes, and half a GiB.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD, KEPT = 1 << 25, 1 << 29


def keep_freed_memory() -> None:
    """Let the C library keep up to half a GiB that is freed, instead of giving it back to the system.

    By default it gives back what a step frees, and the next step waits until each page is cleared again.
    A setting of the whole process, for glibc; others are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        library.mallopt(TRIM_THRESHOLD, KEPT)
