"""Compile the kernel for a cell, a size and a GPU, when a program that calls it is compiled."""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jlstm.backends.gpu import cache as disk
from jlstm.backends.gpu import library, nvrtc
from jlstm.backends.gpu.nvrtc import CompilationError, Nvrtc
from jlstm.backends.gpu.plan import Gpu, Plan

__all__ = ["CompilationError", "kernel", "options", "sources"]

HERE = Path(__file__).parent
SOURCE = "recurrence.cu"
EMULATOR = "simt.h"  # of the tests, which NVRTC never includes


def kernel(cell_name: str, direction: str, plan: Plan, gpu: Gpu, units: int) -> Path:
    """Return the file of a compiled kernel, from the cache or compiled now.

    Args:
        cell_name: the cell as `columns.attributes` names it: "lstm", "gru" or "lstm variant".
        direction: "forward" or "backward".
        plan: how the kernel runs.
        gpu: the GPU that it is compiled for.
        units: the number of units.

    Raises:
        CompilationError: if it cannot be compiled.
    """
    description = f"{cell_name.replace(' ', '_')}-{direction}-{units}"
    return _kernel(description, nvrtc.load(library.cuda_version()[0]), tuple(plan.macros.items()), gpu.capability)


def options(architectures: tuple[int, ...], macros: Mapping[str, str], capability: tuple[int, int]) -> list[str]:
    """Return the options of NVRTC.

    Args:
        architectures: the compute capabilities that NVRTC compiles for, such as 80 and 90.
        macros: what the kernel is compiled with.
        capability: the compute capability of the GPU.

    Raises:
        CompilationError: if NVRTC does not know the GPU.
    """
    major, minor = capability
    # A GPU runs what is compiled for a lower minor version of its compute capability.
    usable = [number for number in architectures if number // 10 == major and number % 10 <= minor]
    if not usable:
        raise CompilationError(f"NVRTC is too old for a GPU of compute capability {major}.{minor}: install a newer one")
    flags = [f"--gpu-architecture=sm_{max(usable)}", "--std=c++17", "-default-device"]
    return flags + [f"-D{name}={value}" for name, value in macros.items()]


@cache
def sources() -> dict[str, str]:
    """Return the texts of the kernel's source and of the headers that it includes, by their names."""
    own_folder, shared_folder = HERE / "src", HERE.parent / "native" / "src"
    texts: dict[str, str] = {}
    names = {SOURCE}
    while names:
        name = names.pop()
        folder = own_folder if (own_folder / name).exists() else shared_folder
        texts[name] = (folder / name).read_text(encoding="utf-8")
        names |= set(re.findall(r'^#include "(.+)"', texts[name], re.MULTILINE)) - {EMULATOR, *texts}
    return texts


def _kernel(description: str, compiler: Nvrtc, macros: tuple[tuple[str, str], ...], capability: tuple[int, int]) -> Path:
    try:
        texts, flags = sources(), options(compiler.architectures, dict(macros), capability)
        key = repr((sorted(texts.items()), flags, compiler.version))
        name = f"{description}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.cubin"
        headers = {header: text for header, text in texts.items() if header != SOURCE}
        return disk.load_or_compile(name, lambda: compiler.compile(SOURCE, texts[SOURCE], headers, flags).cubin)
    except CompilationError:
        raise
    except (OSError, RuntimeError) as error:  # the sources cannot be read, or no folder can be written, or there is no home
        raise CompilationError(f"the kernel cannot be compiled: {error}") from error
