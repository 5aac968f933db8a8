"""The frameworks that are measured. Each has a module, which only its own process imports.

A module defines `build(point, setting) -> jobs`. The jobs are a dict of callables without arguments, with names such as "forward"
and "training". A job that the framework has no usual way to do is left out. A callable returns only when its result is computed.
On a GPU it is a `Job`, which can also be started without waiting for the result.
"""

import importlib
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import NamedTuple

from benchmarks.machine import version
from jlstm.backends import BACKENDS, OF_PLATFORM


class Setting(NamedTuple):
    """How to build the jobs.

    Attributes:
        threads: the number of threads that it may use.
        variant: the framework's variant, such as the backend.
        gpu: whether to run on the GPU.
        dtype: of parameters and inputs, for the frameworks that have a variant for it.
    """

    threads: int
    variant: str = ""
    gpu: bool = False
    dtype: str = "float32"


class Framework(NamedTuple):
    """A framework in the tables.

    Attributes:
        module: its module in this folder.
        package: the package whose version is recorded.
        variant: passed on to `build`.
        environment: environment variables of its process, in addition to the common ones.
        ours: whether it is a backend of this library.
        peer: whether it is compared with this library. NumPy is not: it only multiplies matrices.
        on: where it runs, "cpu" and "gpu".
        long: whether it is run on very long sequences.
        dtype: passed on to `build`.
        cells: the cells of points that it has, see `Point.cell`.
    """

    module: str
    package: str
    variant: str = ""
    environment: Mapping[str, str] = MappingProxyType({})
    ours: bool = False
    peer: bool = True
    on: tuple[str, ...] = ("cpu", "gpu")
    long: bool = False
    dtype: str = "float32"
    cells: tuple[str, ...] = ("lstm", "gru")


def _ours(backend: str) -> Framework:
    on = (backend,) if backend in OF_PLATFORM else ("cpu", "gpu")
    cells = ("lstm", "gru", "peephole", "projection")
    return Framework("ours", "jlstm", backend, ours=True, peer=False, on=on, long=True, cells=cells)


OURS = {"jlstm" if backend == "auto" else f"jlstm {backend}": _ours(backend) for backend in BACKENDS if backend != "parallel"}
PEERS = {
    "torch": Framework("torch", "torch", cells=("lstm", "gru", "projection")),
    "onnxruntime": Framework("onnxruntime", "onnxruntime", on=("cpu",), cells=("lstm", "gru", "peephole")),
    "keras-tf": Framework("keras_tensorflow", "tensorflow", on=("cpu",)),
    "keras-tf-xla": Framework("keras_tensorflow", "tensorflow", "jit_compile", on=("cpu",)),
    "keras-jax": Framework("keras_jax", "keras", environment={"KERAS_BACKEND": "jax"}, on=("cpu",)),
    "flax-linen": Framework("flax_linen", "flax", long=True),
    "flax-nnx": Framework("flax_nnx", "flax"),
    "haiku": Framework("haiku", "dm-haiku", cells=("lstm",)),
    "equinox": Framework("equinox", "equinox"),
    "jax-cudnn": Framework("jax_cudnn", "jax", on=("gpu",), cells=("lstm",)),
}
# Drop-in replacements, run only if `--peers` names them. The variant is the module that replaces the framework's.
DROP_INS = {
    "compat-flax-linen": Framework("flax_linen", "jlstm", "jlstm.compat.flax.linen", peer=False),
    "compat-flax-nnx": Framework("flax_nnx", "jlstm", "jlstm.compat.flax.nnx", peer=False),
}
NUMPY = {"numpy": Framework("numpy", "numpy", peer=False, on=("cpu",))}
# Other arithmetic, for `python -m benchmarks.gpu`. By default JAX and PyTorch multiply float32 in TF32.
ARITHMETIC = {
    "jlstm, no TF32": _ours("auto")._replace(environment={"JAX_DEFAULT_MATMUL_PRECISION": "highest"}, on=("gpu",)),
    "torch, no TF32": Framework("torch", "torch", "no TF32", peer=False, on=("gpu",)),
}
for _dtype in ("bfloat16", "float16"):
    ARITHMETIC[f"jlstm {_dtype}"] = _ours("auto")._replace(dtype=_dtype, on=("gpu",))
    ARITHMETIC[f"torch {_dtype}"] = Framework("torch", "torch", peer=False, on=("gpu",), dtype=_dtype)
FRAMEWORKS = OURS | PEERS | DROP_INS | NUMPY | ARITHMETIC


def load(name: str) -> tuple[ModuleType, str]:
    """Import a framework; return its module and its version.

    Raises:
        ImportError: it is not installed, or not usable.
    """
    framework = FRAMEWORKS[name]
    return importlib.import_module(f"{__name__}.{framework.module}"), version(framework.package)
