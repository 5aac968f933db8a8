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

from jlstm.backends.gpu import compiler, library, nvrtc

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
        sources: the source files, beside the kernel's headers.
    """

    version = (0, 0)
    architectures = (80, 86, 90, 100, 120)

    def __init__(self, folder: Path, *sources: Path):
        self.folder, self.sources = folder, sources

    def compile(self, name, source, headers, options):
        macros = [option for option in options if option.startswith("-D")]
        key = repr((self.sources, macros, source, sorted(headers.items())))
        target = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.so"
        compile_library(target, "-DJLSTM_EMULATED", *macros, *self.sources)
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


def forget() -> None:
    """Forget what `jlstm.backends.gpu` knows of the GPU."""
    for function in (library.obstacle, library.gpu, library.cuda_version, compiler._kernel):
        function.cache_clear()
