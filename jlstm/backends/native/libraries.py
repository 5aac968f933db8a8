"""Find the compiled libraries of the native kernels, and check that they fit the sources.

A library is beside the Python code of its kernel, or in site-packages if the package is installed as editable. If none was built,
because the machine had no C++ compiler at installation, everything works without them.
"""

import ctypes
import hashlib
import sysconfig
from pathlib import Path

COMPILED = (".cc", ".h", ".map")  # what the libraries are built from; a GPU compiles the other sources when they are needed
NOT_BUILT = "no kernel was built: install jlstm again on a machine with a C++ compiler"


def folders(package: Path) -> tuple[Path, ...]:
    """Return the folders where the library of a kernel may be: `package`, the folder of its Python code, first."""
    # jlstm/backends/cpu, for example, which is also where a library lies in a folder of installed packages.
    package_path = package.relative_to(package.parents[2])
    return (package, *(Path(sysconfig.get_path(kind)) / package_path for kind in ("purelib", "platlib")))


def sources(package: Path) -> str:
    """Return a hash of the sources of a library, computed as CMakeLists.txt does.

    Args:
        package: the folder of the kernel, or a copy of it. Beside it are the sources that the kernels share.
    """
    build_files = [package.parent / "CMakeLists.txt", package / "CMakeLists.txt"]
    files = [file for folder in (package, package.parent / "native") for file in sorted((folder / "src").iterdir())]
    compiled = [file for file in files if file.suffix in COMPILED]
    hashes = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in (*build_files, *compiled))
    return hashlib.sha256(hashes.encode()).hexdigest()


def call_text_function(library: ctypes.CDLL, function: str, *arguments: object) -> str:
    """Return the text that a C function of a library returns."""
    c_function = library[function]
    # By default ctypes would take the returned pointer for a C int, which is too narrow for it.
    c_function.restype = ctypes.c_char_p
    return c_function(*arguments).decode(errors="replace")
