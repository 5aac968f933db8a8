"""Load the host library of the GPU kernel, open the CUDA driver with it, and register its functions with XLA.

The library has no link to CUDA. It opens the driver, libcuda, when it is first needed.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax

from jlstm.backends.gpu import nvrtc
from jlstm.backends.gpu.plan import Gpu
from jlstm.backends.native import libraries

HERE = Path(__file__).parent
NAME = "libkernel-gpu.so"
DRIVER = "libcuda.so.1"  # the driver's library
PLATFORM = "CUDA"  # XLA's name of the platform
OLDEST_CAPABILITY = (8, 0)  # of a GPU that has the instructions that the kernel needs
TARGETS = {"jlstm_gpu_forward": "JlstmGpuForward", "jlstm_gpu_backward": "JlstmGpuBackward"}


class Library(NamedTuple):
    """A loaded library. If none could be loaded, `functions` is None and `reason` says why in one sentence."""

    functions: ctypes.CDLL | None
    reason: str = ""


@cache
def load() -> Library:
    """Return the library that was built from the sources of this package."""
    try:
        source_hash = libraries.sources(HERE)
    except OSError as error:
        return Library(None, f"the kernel's sources, which tell whether it fits, cannot be read: {error}")
    return find(libraries.folders(HERE), source_hash)


def find(folders: tuple[Path, ...], source_hash: str) -> Library:
    """Return the library from the first folder that has it.

    Args:
        folders: the folders to search, in this order.
        source_hash: the hash of the sources from which the library must be built.
    """
    folder = next((folder for folder in folders if (folder / NAME).exists()), None)
    if folder is None:
        return Library(None, libraries.NOT_BUILT)
    try:
        functions = ctypes.CDLL(str(folder / NAME))
        if libraries.call_text_function(functions, "jlstm_gpu_sources") != source_hash:
            return Library(None, f"the kernel in {folder} was built from other sources: install jlstm again")
    except (OSError, AttributeError) as error:
        return Library(None, f"the kernel in {folder} could not be loaded: {error}")
    return Library(functions)


@cache
def obstacle() -> str:
    """Make the kernel ready for calls. Return why that is not possible, or "". It happens once in a process."""
    try:
        _devices()  # starts JAX before the registration, which is refused while JAX starts
        _call("jlstm_gpu_open", DRIVER.encode())
        if (capability := gpu().capability) < OLDEST_CAPABILITY:
            return f"the GPU has compute capability {_dotted(capability)}, and the kernel needs {_dotted(OLDEST_CAPABILITY)}"
        nvrtc.load(cuda_version()[0])
    except (DriverError, nvrtc.CompilationError) as error:
        return str(error)
    except RuntimeError as error:
        return f"JAX computes on no GPU: {error}"
    return _register(PLATFORM)


@cache
def _register(platform: str) -> str:
    """Register the functions of the library with XLA, which refuses to do it twice. Return why that is not possible, or ""."""
    try:
        for target, function in TARGETS.items():
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(_functions()[function]), platform=platform)
    except RuntimeError as error:
        return f"this JAX cannot call the kernel: {error}"
    return ""


class DriverError(RuntimeError):
    """The CUDA driver cannot do what was asked for. The message is one sentence."""


@cache
def gpu() -> Gpu:
    """Describe the GPUs on which JAX computes in this process.

    Raises:
        DriverError: if they cannot be queried, or differ: a program is compiled for all of them.
    """
    descriptions = {_describe(ordinal) for ordinal in _devices()}
    if len(descriptions) > 1:
        raise DriverError("the GPUs differ, and the kernel is compiled for one kind: choose GPUs with CUDA_VISIBLE_DEVICES")
    return descriptions.pop()


@cache
def cuda_version() -> tuple[int, int]:
    """Return the version of CUDA that the driver is for, such as (12, 4)."""
    number = ctypes.c_int()
    _call("jlstm_gpu_driver_version", ctypes.byref(number))
    return number.value // 1000, number.value % 1000 // 10


def _devices() -> list[int]:
    """Return the driver's numbers of the GPUs on which JAX computes in this process."""
    return [device.local_hardware_id for device in jax.local_devices(backend="cuda")]


def _describe(ordinal: int) -> Gpu:
    numbers = (ctypes.c_int * 4)()
    _call("jlstm_gpu_describe", ordinal, numbers)
    major, minor, multiprocessors, shared_bytes = numbers
    return Gpu((major, minor), multiprocessors, shared_bytes)


def _call(function: str, *arguments: object) -> None:
    if reason := libraries.call_text_function(_functions(), function, *arguments):
        raise DriverError(reason)


def _functions() -> ctypes.CDLL:
    loaded = load()
    if loaded.functions is None:
        raise DriverError(loaded.reason)
    return loaded.functions


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
