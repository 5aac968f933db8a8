"""Compile the kernel for a cell, a size and a GPU, when a program that calls it is compiled."""

import hashlib
import re
from functools import cache
from pathlib import Path

from jlstm.backends.gpu import cache as disk
from jlstm.backends.gpu import library, nvrtc
from jlstm.backends.gpu.nvrtc import CompilationError, Nvrtc
from jlstm.backends.gpu.plan import Gpu, Plan

__all__ = ["CompilationError", "kernel", "macros", "options", "sources"]

HERE = Path(__file__).parent
SOURCE = "recurrence.cu"
# What the host library is compiled from too; all other headers of the kernel are .cuh.
SHARED_HEADERS = ("arguments.h", "vector.h", "cells.h", "gates.h")
CELLS = {"lstm": "jlstm::Lstm<float>", "gru": "jlstm::Gru<float>", "lstm variant": "jlstm::LstmVariant<float>"}


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
    values = macros(cell_name, direction, plan, units)
    return _kernel(nvrtc.load(library.cuda_version()[0]), tuple(values.items()), gpu.capability)


def macros(cell_name: str, direction: str, plan: Plan, units: int) -> dict[str, str]:
    """Return what a kernel is compiled for, as macros."""
    return {"JLSTM_CELL": CELLS[cell_name], "JLSTM_DIRECTION": direction, "JLSTM_UNITS": str(units)} | plan.macros


def options(nvrtc_architectures: tuple[int, ...], values: dict[str, str], capability: tuple[int, int]) -> list[str]:
    """Return the options of NVRTC.

    Args:
        nvrtc_architectures: the compute capabilities that it compiles for.
        values: the macros.
        capability: the compute capability of the GPU.

    Raises:
        CompilationError: if NVRTC does not know the GPU.
    """
    major, minor = capability
    # A GPU runs what is compiled for a lower minor version of its compute capability.
    usable = [number for number in nvrtc_architectures if number // 10 == major and number % 10 <= minor]
    if not usable:
        raise CompilationError(f"NVRTC is too old for a GPU of compute capability {major}.{minor}: install a newer one")
    flags = [f"--gpu-architecture=sm_{max(usable)}", "--std=c++17", "-default-device"]
    return flags + [f"-D{name}={value}" for name, value in values.items()]


@cache
def sources() -> dict[str, str]:
    """Return the texts of the kernel's source and its headers by name."""
    files = [file for folder in (HERE, HERE.parent / "native") for file in (folder / "src").iterdir()]
    used = [file for file in files if file.suffix == ".cuh" or file.name in (SOURCE, *SHARED_HEADERS)]
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(used, key=lambda file: file.name)}


@cache
def _kernel(compiler: Nvrtc, values: tuple[tuple[str, str], ...], capability: tuple[int, int]) -> Path:
    try:
        texts = dict(sources())
        flags = options(compiler.architectures, dict(values), capability)
        key = repr((sorted(texts.items()), flags, compiler.version))
        description = "-".join(re.sub(r"\W+", "_", value).strip("_") for _, value in values[:3])
        name = f"{description}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.cubin"
        source = texts.pop(SOURCE)
        return disk.load_or_compile(name, lambda: compiler.compile(SOURCE, source, texts, flags).cubin)
    except OSError as error:  # the sources cannot be read, or no folder can be written
        raise CompilationError(f"the kernel cannot be compiled: {error}") from error
