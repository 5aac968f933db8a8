"""Check that an input is read, or refused in one sentence, with memory in proportion to its size."""

import tracemalloc
from pathlib import Path

from fuzz.targets import Target

TRACED, RESIDENT = 4 << 20, 64 << 20  # bytes that a file of any size may take: as Python counts them, and of the process
FACTOR = 64  # additional bytes for each byte of the file


class FindingError(Exception):
    """A reader did something that it must not do."""


def read(target: Target, path: Path, content: bytes) -> int:
    """Write an input to a file and read it.

    Args:
        target: the reader.
        path: the file to write.
        content: the input.

    Returns:
        The size of all files of the input, in bytes.

    Raises:
        FindingError: the reader refuses it, but not with one sentence that ends in a remedy.
        Exception: any other exception of the reader.
    """
    target.write(path, content)
    try:
        target.read(path)
    except ValueError as error:
        sentence = str(error)
        if type(error) is not ValueError or "\n" in sentence or ": " not in sentence:
            raise FindingError(f"expected one sentence with a remedy, got {type(error).__name__}: {sentence}") from error
    return sum(file.stat().st_size for file in path.parent.iterdir())


def check(target: Target, path: Path, content: bytes) -> None:
    """Read an input, and compare the memory that this takes with the size of its file.

    Args:
        target: the reader.
        path: the file to write.
        content: the input.

    Raises:
        FindingError: the memory is out of proportion, or `read` raises it.
        Exception: any other exception of the reader.
    """
    resident = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak of the resident memory
    tracemalloc.reset_peak()
    traced, _ = tracemalloc.get_traced_memory()
    size = read(target, path, content)
    # tracemalloc sees only what Python allocates; the peak of the process also covers libraries in C++ and Rust.
    for kind, taken, free in (
        ("Python's", tracemalloc.get_traced_memory()[1] - traced, TRACED),
        ("the process'", _status("VmHWM") - resident, RESIDENT),
    ):
        if taken > (limit := free + FACTOR * size):
            raise FindingError(f"a file of {size} bytes took {taken} bytes of {kind} memory, expected at most {limit}")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
