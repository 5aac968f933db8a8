"""A GPU that is not there: calls of the kernel on JAX's CPU platform, through a stand-in for the CUDA driver."""

import fcntl
import hashlib
import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import jax
import pytest

from jlstm.backends import cpu, gpu
from jlstm.backends.gpu import cache, library, nvrtc
from jlstm.backends.native import primitives

ROOT = library.HERE.parents[2]
INCLUDES = [f"-I{folder}" for folder in (library.HERE / "src", library.HERE.parent / "native" / "src", library.HERE / "tests")]
STANDIN = "JLSTM_STANDIN"  # the environment variable with the stand-in's settings


def compile_library(target: Path, *arguments: str | Path) -> Path:
    """Compile a shared library, unless another process of the tests has done it."""
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            command = ["c++", "-std=c++17", "-O1", "-fPIC", "-shared", "-pthread", *INCLUDES, *arguments, "-ldl"]
            unfinished = target.with_suffix(".unfinished")
            subprocess.run([*command, "-o", unfinished], check=True)
            unfinished.replace(target)
    return target


class EmulatingCompiler:
    """Compiles for the emulator what NVRTC compiles for a GPU. Its cubin is the path of a shared library.

    Args:
        folder: where the libraries are.
    """

    version = (0, 0)
    architectures = (80, 86, 90, 100, 120)

    def __init__(self, folder: Path):
        self.folder = folder

    def compile(self, name, source, headers, options):
        """Compile the kernel as `Nvrtc.compile` does."""
        tests, macros = library.HERE / "tests", [option for option in options if option.startswith("-D")]
        emulator = compile_library(self.folder / "libsimt.so", tests / "simt.cc")
        target = self.folder / f"{hashlib.sha256(repr(macros).encode()).hexdigest()[:32]}.so"
        compile_library(target, "-DJLSTM_EMULATED", *macros, tests / "emulated.cc", emulator, f"-Wl,-rpath,{self.folder}")
        return nvrtc.Compiled(os.fsencode(target) + b"\0", "")


class Standin:
    """The stand-in for the CUDA driver, in this process."""

    def __init__(self, log: Path):
        self.log = log
        self.set()

    def set(self, **settings: object) -> None:
        """Replace all settings: see standin.cc."""
        os.environ[STANDIN] = " ".join(f"{name}={value}" for name, value in ({"log": self.log} | settings).items())

    def calls(self, function: str) -> list[dict]:
        """Return the arguments of the calls of a function so far, in their order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        calls = [json.loads(line) for line in lines]
        return [{name: call[name] for name in call if name != "function"} for call in calls if call["function"] == function]


@contextmanager
def installed(driver: Path, cuda_compiler: EmulatingCompiler | None = None):
    """Let `jlstm.backends.gpu` use the stand-in and a compiler, on JAX's CPU platform."""
    with pytest.MonkeyPatch.context() as patch, jax.default_device(jax.devices("cpu")[0]):
        patch.setattr(library, "DRIVER", str(driver))
        patch.setattr(library, "PLATFORM", "cpu")
        patch.setattr(library, "_devices", lambda: [0])
        patch.setattr(nvrtc, "load", lambda newest=nvrtc.NEWEST: cuda_compiler)
        patch.setenv(STANDIN, "")
        forget()
        yield
    forget()


@contextmanager
def running(driver: Path, folder: Path):
    """Let `backend="gpu"` run its kernel on the emulator.

    Args:
        driver: the stand-in.
        folder: for compiled kernels.
    """
    with installed(driver, EmulatingCompiler(folder)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        patch.setattr(cache, "folder", lambda: folder)
        primitives.register("cpu", gpu.kernel)
        try:
            yield
        finally:
            primitives.register("cpu", cpu.kernel)


def forget() -> None:
    """Forget what `jlstm.backends.gpu` knows of the GPU, and the programs that call its kernel."""
    for function in (library.obstacle, library.gpu, library.cuda_version, gpu.kernel._compiled):
        function.cache_clear()
    jax.clear_caches()
