"""Reuse of freed memory between steps on CPUs."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # constants of glibc's malloc.h


def keep_memory() -> bool:
    """Tell glibc to keep freed memory in this process instead of returning it to the operating system.

    XLA allocates the memory of a computation at every call. On a CPU, glibc maps blocks of megabytes anew each time, and the
    operating system clears them page by page. For a training step of medium size this can take a third of the time. With this
    setting the process keeps its peak memory until it ends.

    The setting exists only on Linux with glibc; elsewhere the function does nothing. Call it before the first computation.

    Returns:
        Whether glibc accepted the setting.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # No blocks from mmap, which are unmapped when they are freed, and no trimming of the heap.
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
