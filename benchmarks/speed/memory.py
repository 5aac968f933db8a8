"""Memory that is resident in this process now, and at its peak since the peak was last forgotten. Linux only, else None."""

import ctypes
import gc
import re
from pathlib import Path

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int | None:
    """Bytes, once what was freed has been given back to the system, so that it is not taken for something in use."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
    except (AttributeError, OSError, TypeError):
        return None
    return _status("VmRSS")


def forget_peak() -> bool:
    """Let the peak begin anew; return whether the system does that."""
    try:
        FORGET.write_text("5")
    except OSError:
        return False
    return True


def peak() -> int | None:
    """Bytes."""
    return _status("VmHWM")


def _status(name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE) if STATUS.exists() else None
    return int(found[1]) * 1024 if found else None
