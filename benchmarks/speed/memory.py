"""Measure the resident memory of this process, and its peak since the last reset. Other systems than Linux return None."""

import ctypes
import gc
import re
from pathlib import Path

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int | None:
    """Return resident bytes, after freed memory has been returned to the system."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # only glibc has it
    except (AttributeError, OSError, TypeError):
        return None
    return _status("VmRSS")


def forget_peak() -> bool:
    """Reset the peak; return whether the system supports that."""
    try:
        FORGET.write_text("5")  # proc(5): resets the peak resident set size
    except OSError:
        return False
    return True


def peak() -> int | None:
    """Return the peak of resident memory in bytes."""
    return _status("VmHWM")


def _status(name: str) -> int | None:
    """Return a field of /proc/self/status in bytes; None if the system does not have it."""
    match = re.search(rf"^{name}:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE) if STATUS.exists() else None
    return int(match[1]) * 1024 if match else None
