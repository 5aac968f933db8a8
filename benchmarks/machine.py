"""Facts about the machine, the installed packages and this repository, which every benchmark records."""

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGES = ("jlstm", "jax", "jaxlib", "flax", "optax", "numpy", "tensorflow", "keras")

# Environment of the processes that are measured.
ENVIRONMENT = {
    # glibc keeps freed memory in the process. The examples ask for this by `jlstm.train.keep_memory`, so Keras gets the same.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Machine(NamedTuple):
    """The machine that ran a benchmark.

    Attributes:
        system: name and version of the operating system.
        processor: model name of the processor.
        cores: number of cores that this process may use.
        bytes: size of the main memory.
        gpu: names of the GPUs with their drivers; "" if there is none.
    """

    system: str
    processor: str
    cores: int
    bytes: int
    gpu: str = ""


def machine() -> Machine:
    """Return the system, processor, number of cores, memory and GPUs of this machine."""
    # `platform.processor()` is empty or only the instruction set on Linux, so the model name comes from /proc.
    information = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.*)$", information.read_text(), re.MULTILINE) if information.exists() else []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(platform.platform(), (models or [platform.machine()])[0], cores(), memory, gpus())


def gpus() -> str:
    """Return the names of NVIDIA's GPUs in this machine with the versions of their drivers, or ""."""
    if (program := shutil.which("nvidia-smi")) is None:
        return ""
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    process = subprocess.run(query, capture_output=True, text=True)
    return "" if process.returncode else "; ".join(process.stdout.splitlines())


def cores() -> int:
    """Return the number of cores that this process may use."""
    # In a container or under taskset, `os.cpu_count` counts cores that this process cannot run on.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed, by default those that compute."""
    found: dict[str, str] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except metadata.PackageNotFoundError:
            continue  # a machine with a GPU may have no TensorFlow
    return found


def version(package: str) -> str:
    """Return the version of a package.

    Raises:
        PackageNotFoundError: it is not installed, and is not this repository.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        if package != "jlstm":
            raise
    return str(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    )  # a checkout on the path


def peak_bytes(*, children: bool = False) -> int:
    """Return the peak resident memory of this process so far, in bytes.

    Args:
        children: return the largest peak among the child processes that have ended, instead of this process's own.
    """
    usage = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # macOS counts bytes, Linux KiB
