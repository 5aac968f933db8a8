"""What must hold of every input: it is read or refused in one sentence, in memory in proportion to its size."""

import tracemalloc
from pathlib import Path

from fuzz.targets import Target

TRACED, RESIDENT, FACTOR = 4 << 20, 64 << 20, 64  # bytes that Python and the libraries below it may take, and more by size


class FindingError(Exception):
    """What a reader must not do."""


def read(target: Target, path: Path, given: bytes) -> int:
    """Read an input and return the size of its file in bytes.

    Raises:
        FindingError: it is refused in another way than with one sentence that ends in a remedy.
        Exception: whatever else the reader raises.
    """
    target.write(path, given)
    try:
        target.read(path)
    except ValueError as error:
        sentence = str(error)
        if type(error) is not ValueError or "\n" in sentence or ": " not in sentence:
            raise FindingError(f"expected one sentence with a remedy, got {type(error).__name__}: {sentence}") from error
    return sum(file.stat().st_size for file in path.parent.iterdir())


def check(target: Target, path: Path, given: bytes) -> None:
    """Read an input and measure what memory that takes.

    Raises:
        FindingError: it takes more than in proportion to the file's size, or as `read`.
        Exception: whatever else the reader raises.
    """
    resident = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest of the resident memory begins anew
    tracemalloc.reset_peak()
    traced, _ = tracemalloc.get_traced_memory()
    size = read(target, path, given)
    for kind, taken, free in (
        ("Python's", tracemalloc.get_traced_memory()[1] - traced, TRACED),
        ("the process'", _status("VmHWM") - resident, RESIDENT),
    ):
        if taken > (most := free + FACTOR * size):
            raise FindingError(f"a file of {size} bytes took {taken} bytes of {kind} memory, expected at most {most}")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
