"""Print what a bug report needs: versions, devices, and which native kernel there is, or why there is none.

`python -m jlstm` prints it as text, and `python -m jlstm --json` as JSON.
"""

import argparse
import json
import os
import platform
from importlib import metadata
from typing import Any

import jax

from jlstm import backends
from jlstm.backends import gpu
from jlstm.backends.cpu import kernel, library
from jlstm.backends.gpu import cache
from jlstm.backends.gpu import library as gpu_library

PACKAGES = ("jlstm", "jax", "jaxlib", "numpy", "jaxtyping", "safetensors", "flax", "optax", "orbax-checkpoint")
VARIABLES = (
    *("JAX_PLATFORMS", "XLA_FLAGS", "JAX_ENABLE_X64", "JAX_COMPILATION_CACHE_DIR", "CUDA_VISIBLE_DEVICES"),
    *(library.CHOICE, cache.VARIABLE, "JLSTM_DATA"),
)


def facts() -> dict[str, dict[str, Any]]:
    """Return the facts by topic: versions, machine, JAX, backends, and environment variables that are set."""
    reason = kernel.obstacle()
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "jax": {
            "devices": [f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()],
            "float64": bool(jax.config.read("jax_enable_x64")),
        },
        "backends": {
            "auto tries": ", ".join(backends.tried()),
            "native kernel": f"none: {reason}" if reason else f"for {library.load().instructions}",
            **_gpu_kernel(),
        },
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _gpu_kernel() -> dict[str, str]:
    if jax.default_backend() != gpu.PLATFORM:
        return {}
    if reason := gpu.kernel.obstacle():
        return {"native kernel for GPUs": f"none: {reason}"}
    description = gpu_library.gpu()
    capability = ".".join(map(str, description.capability))
    return {"native kernel for GPUs": f"for compute capability {capability}, {description.multiprocessors} multiprocessors"}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def text(topics: dict[str, dict[str, Any]]) -> str:
    """Return the facts as lines, one for each fact, under the name of their topic."""
    lines = []
    for topic, entries in topics.items():
        lines += [topic] if entries else []
        for name, value in entries.items():
            lines.append(f"  {name}: {', '.join(value) if isinstance(value, list) else value}")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, and print the facts as text or, with `--json`, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m jlstm", description="Print what a bug report needs.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    topics = facts()
    print(json.dumps(topics, indent=2) if parser.parse_args().json else text(topics))


if __name__ == "__main__":
    main()
