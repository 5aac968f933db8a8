"""Load the compiled kernel: a shared library for each instruction set, of which the processor uses one.

The libraries are beside this file, or in site-packages if the package is installed as editable. If none was built, because the
machine had no C++ compiler at installation, everything works without them.
"""

import ctypes
import hashlib
import os
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import NamedTuple

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
    # jlstm/backends/cpu, which is also where the library lies in a folder of installed packages.
    package_path = HERE.relative_to(HERE.parents[2])
    try:
        source_hash = sources(HERE)
    except OSError as error:
        return Library(None, reason=f"the kernel's sources, which tell whether it fits, cannot be read: {error}")
    folders = (HERE, *(Path(sysconfig.get_path(kind)) / package_path for kind in ("purelib", "platlib")))
    return find(folders, source_hash, os.environ.get(CHOICE, ""))


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
        return Library(None, reason="no kernel was built: install jlstm again on a machine with a C++ compiler")
    try:
        # The baseline library runs on every processor. It tells which of the others may be loaded.
        baseline = ctypes.CDLL(str(_path(folder, "baseline")))
        if _call_text_function(baseline, "jlstm_sources") != source_hash:
            return Library(None, reason=f"the kernel in {folder} was built from other sources: install jlstm again")
        best = _call_text_function(baseline, "jlstm_processor")
        # an old compiler may not have built all of them
        usable = [name for name in INSTRUCTIONS[: INSTRUCTIONS.index(best) + 1] if _path(folder, name).exists()]
        if chosen and chosen not in usable:
            return Library(None, reason=f"{CHOICE} must be one of {', '.join(usable)} on this machine, got {chosen[:40]!r}")
        instructions = chosen or usable[-1]
        return Library(ctypes.CDLL(str(_path(folder, instructions))), instructions)
    except (OSError, AttributeError) as error:
        return Library(None, reason=f"the kernel in {folder} could not be loaded: {error}")


def sources(folder: Path) -> str:
    """Return a hash of the sources of the kernel, computed as CMakeLists.txt does.

    Args:
        folder: the folder of this file, or a copy of it. The sources that the native kernels share are beside it.
    """
    shared_folder = folder.parent / "native" / "src"
    files = sorted(file for file in (folder / "src").iterdir() if file.suffix in (".cc", ".h", ".map"))
    files += sorted(file for file in shared_folder.iterdir() if file.suffix == ".h")
    hashes = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in (folder / "CMakeLists.txt", *files))
    return hashlib.sha256(hashes.encode()).hexdigest()


def _path(folder: Path, instructions: str) -> Path:
    return folder / f"libkernel-{instructions}{SUFFIX}"


def _call_text_function(library: ctypes.CDLL, function: str) -> str:
    c_function = library[function]
    # By default ctypes would take the returned pointer for a C int, which is too narrow for it.
    c_function.restype = ctypes.c_char_p
    return c_function().decode()
