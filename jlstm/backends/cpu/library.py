"""Load the compiled kernel: a shared library for each instruction set, of which the processor uses one."""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jlstm.backends.native import libraries

INSTRUCTIONS = ("baseline", "avx2", "avx512")  # from the oldest processors to the newest
CHOICE = "JLSTM_INSTRUCTIONS"  # the environment variable that names one of them, for tests and benchmarks
HERE = Path(__file__).parent
SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"


class Library(NamedTuple):
    """A loaded library. If none could be loaded, `functions` is None and `reason` says why in one sentence."""

    functions: ctypes.CDLL | None
    instructions: str = ""  # one of INSTRUCTIONS
    reason: str = ""


@cache
def load() -> Library:
    """Return the best library for this processor that was built from the sources of this package.

    The environment variable `JLSTM_INSTRUCTIONS` chooses another one: "baseline", "avx2" or "avx512". It is read once.
    """
    try:
        source_hash = libraries.sources(HERE)
    except OSError as error:
        return Library(None, reason=f"the kernel's sources, which tell whether it fits, cannot be read: {error}")
    return find(libraries.folders(HERE), source_hash, os.environ.get(CHOICE, ""))


def find(folders: tuple[Path, ...], source_hash: str, chosen: str = "") -> Library:
    """Return a library from the first folder that has any.

    Args:
        folders: the folders to search, in this order.
        source_hash: the hash of the sources from which the library must be built.
        chosen: the instruction set. "" takes the best one that this processor supports.

    Returns:
        The library, or the reason why there is none.
    """
    folder = next((folder for folder in folders if _path(folder, "baseline").exists()), None)
    if folder is None:
        return Library(None, reason=libraries.NOT_BUILT)
    try:
        # The baseline library runs on every processor. It tells which of the others may be loaded.
        baseline = ctypes.CDLL(str(_path(folder, "baseline")))
        if libraries.call_text_function(baseline, "jlstm_sources") != source_hash:
            return Library(None, reason=f"the kernel in {folder} was built from other sources: install jlstm again")
        best = libraries.call_text_function(baseline, "jlstm_processor")
        # an old compiler may not have built all of them
        usable = [name for name in INSTRUCTIONS[: INSTRUCTIONS.index(best) + 1] if _path(folder, name).exists()]
        if chosen and chosen not in usable:
            return Library(None, reason=f"{CHOICE} must be one of {', '.join(usable)} on this machine, got {chosen[:40]!r}")
        instructions = chosen or usable[-1]
        return Library(ctypes.CDLL(str(_path(folder, instructions))), instructions)
    except (OSError, AttributeError) as error:
        return Library(None, reason=f"the kernel in {folder} could not be loaded: {error}")


def _path(folder: Path, instructions: str) -> Path:
    return folder / f"libkernel-{instructions}{SUFFIX}"
