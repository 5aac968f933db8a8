"""Whether a machine can run the GPU kernel: a driver with a GPU, packages, and the host library, which is compiled if need be."""

import ctypes
import os
import shlex
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

PACKAGES = {"jax": '"jax[cuda13]"', "numpy": "numpy", "jaxtyping": "jaxtyping", "safetensors": "safetensors"}  # what pip installs
DRIVER = "libcuda.so.1"


class NotReadyError(Exception):
    """The machine lacks something. The message is one sentence that says what."""


def check_gpu() -> None:
    """Ask the CUDA driver for a GPU, which needs neither JAX nor a CUDA toolkit.

    Raises:
        NotReadyError: there is none.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        raise NotReadyError(f"there is no NVIDIA GPU here: the CUDA driver cannot be loaded ({error})") from error
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        raise NotReadyError(f"there is no NVIDIA GPU here: the CUDA driver finds {count.value} (its status is {status})")


def check_packages() -> None:
    """Look for the packages that jlstm needs.

    Raises:
        NotReadyError: some are not installed.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        remedy = f"pip install {' '.join(PACKAGES[name] for name in missing)}"
        raise NotReadyError(f"{' and '.join(missing)}, which jlstm needs, cannot be imported: {remedy}")


def build() -> str:
    """Compile the host library of the kernel beside its sources, unless there is one for these sources. CMake is not needed.

    Returns:
        What was done, in one sentence.

    Raises:
        NotReadyError: there is no compiler, or it fails.
    """
    from jlstm.backends.gpu import library
    from jlstm.backends.native import libraries

    source_hash = libraries.sources(library.HERE)
    if library.find(libraries.folders(library.HERE), source_hash).functions is not None:
        return "the library of the kernel is there"
    target = library.HERE / library.NAME
    unfinished = target.with_suffix(f".{os.getpid()}")
    process = subprocess.run([*compile_command(source_hash), "-o", str(unfinished)], capture_output=True, text=True)
    if process.returncode:
        lines = [line for line in process.stderr.splitlines() if "error" in line] or process.stderr.splitlines() or ["no message"]
        raise NotReadyError(f"the C++ compiler cannot compile the library of the kernel: {lines[0]}")
    unfinished.replace(target)
    return f"compiled {target}"


def compile_command(source_hash: str) -> list[str]:
    """Return the command that compiles the host library, without the name of its result: what CMakeLists.txt does.

    Args:
        source_hash: of the sources, which the library returns, so that it is never used with others.

    Raises:
        NotReadyError: there is no compiler.
    """
    import jax

    from jlstm.backends.gpu import library

    own_folder, shared_folder = library.HERE / "src", library.HERE.parent / "native" / "src"
    return [
        *compiler(),
        *("-std=c++17", "-O3", "-DNDEBUG", "-fPIC", "-shared", "-pthread"),
        *(f"-I{own_folder}", f"-I{shared_folder}", "-isystem", jax.ffi.include_dir()),
        f'-DJLSTM_SOURCES="{source_hash}"',
        *map(str, sources(own_folder)),
        f"-Wl,--version-script={shared_folder / 'exported.map'}",
        "-ldl",
    ]


def sources(folder: Path) -> list[Path]:
    """Return the source files of the host library."""
    return sorted(folder.glob("*.cc"))


def compiler() -> list[str]:
    """Return the command of the C++ compiler: $CXX, or the first that is installed.

    Raises:
        NotReadyError: there is none.
    """
    if chosen := shlex.split(os.environ.get("CXX", "")):
        return chosen
    names = ("c++", "g++", "clang++")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise NotReadyError(f"there is no C++ compiler ({', '.join(names)}) for the library of the kernel: install g++")
    return [path]
