"""NVRTC, NVIDIA's compiler of CUDA C++ as a library. It comes with `jax[cuda12]` and `jax[cuda13]`, and needs no GPU.

Reference: NVRTC, https://docs.nvidia.com/cuda/nvrtc/
"""

import ctypes
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

OLDEST = 12  # the major version of CUDA
NEWEST = 13


class CompilationError(RuntimeError):
    """A kernel cannot be compiled. The message is one sentence."""


class Compiled(NamedTuple):
    """A compiled kernel, and what the compiler said."""

    cubin: bytes
    log: str


class Nvrtc:
    """A loaded NVRTC.

    Attributes:
        version: its version, such as (12, 9).
        architectures: the compute capabilities that it compiles for, such as 80 and 90.
    """

    def __init__(self, library: ctypes.CDLL):
        self._library = library
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = major.value, minor.value
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", numbers)
        self.architectures = tuple(numbers)

    def compile(self, name: str, source: str, headers: Mapping[str, str], options: Sequence[str]) -> Compiled:
        """Compile a source file.

        Args:
            name: its name, for messages.
            source: its text.
            headers: the texts of the files that it may include, by their names.
            options: the compiler's options. One of them names the architecture.

        Raises:
            CompilationError: if there is an error in it.
        """
        program = ctypes.c_void_p()
        self._call(
            "nvrtcCreateProgram",
            ctypes.byref(program),
            source.encode(),
            name.encode(),
            len(headers),
            _texts(list(headers.values())),
            _texts(list(headers)),
        )
        try:
            result = self._library.nvrtcCompileProgram(program, len(options), _texts(options))
            log = self._output("nvrtcGetProgramLog", program).rstrip(b"\0").decode(errors="replace").strip()
            if result:
                first_error = re.search(r"^.*\berror\b.*$", log, re.MULTILINE)
                reason = first_error[0].strip() if first_error else self._error(result)
                raise CompilationError(f"NVRTC {self.version[0]}.{self.version[1]} cannot compile the kernel: {reason}")
            return Compiled(self._output("nvrtcGetCUBIN", program), log)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _output(self, function: str, program: ctypes.c_void_p) -> bytes:
        """Return the result of a function that has another one with the suffix Size."""
        size = ctypes.c_size_t()
        self._call(f"{function}Size", program, ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        self._call(function, program, content)
        return content.raw

    def _call(self, function: str, *arguments: object) -> None:
        if result := self._library[function](*arguments):
            raise CompilationError(f"NVRTC fails in {function}: {self._error(result)}")

    def _error(self, result: int) -> str:
        return self._library.nvrtcGetErrorString(result).decode(errors="replace")


@cache
def load(newest: int = NEWEST) -> Nvrtc:
    """Return the newest NVRTC of this machine.

    Args:
        newest: the newest major version of CUDA to take. A driver runs what a newer NVRTC compiled only if it has the same major
            version.

    Raises:
        CompilationError: if there is none.
    """
    reason = "install nvidia-cuda-nvrtc-cu12 for CUDA 12, or nvidia-cuda-nvrtc for CUDA 13"
    for path in _candidates(newest):
        try:
            return Nvrtc(ctypes.CDLL(path))
        except OSError as error:  # there is no such file, or it cannot be loaded
            if Path(path).is_absolute():
                reason = str(error)
        except AttributeError as error:
            reason = f"{path} is too old: {error}"
    raise CompilationError(f"NVRTC, which compiles the kernel, cannot be loaded: {reason}")


def _candidates(newest: int) -> Iterator[str]:
    """Yield the files that may be an NVRTC: those of NVIDIA's packages for Python, and those of the system."""
    spec = find_spec("nvidia")  # a namespace with the packages of CUDA, which has no code of its own
    package_folders = [Path(folder) for folder in (spec.submodule_search_locations or [] if spec else [])]
    for major in range(newest, OLDEST - 1, -1):
        package = "cuda_nvrtc" if major == 12 else f"cu{major}"  # the layout of the packages changed with CUDA 13
        paths = [folder / package / "lib" / f"libnvrtc.so.{major}" for folder in package_folders]
        yield from (str(path) for path in paths if path.exists())
    for major in range(newest, OLDEST - 1, -1):
        yield f"libnvrtc.so.{major}"


def _texts(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))
