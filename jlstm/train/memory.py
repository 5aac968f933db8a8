"""Memory that a step freed, kept for the next one."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # the names and numbers of glibc's malloc.h


def keep_memory() -> bool:
    """Tell the C library to keep the memory that was freed, for the whole process; return whether it could be told.

    XLA allocates a computation's memory anew at every call. On a CPU, glibc takes blocks of megabytes from the operating system
    and gives them back each time, which then clears them page by page: for a training step of medium size that can be
    a third of the time. A process that keeps them needs as much memory as it needed at its peak, until it ends.

    Only Linux with glibc can be told; elsewhere nothing is done. Call it before the first computation.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
