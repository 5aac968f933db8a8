"""XLA flags that shorten compilation, which takes nearly all of a table's time."""

import os
from importlib import metadata

FAST = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if metadata.version("jax").startswith("0.10."):  # later versions do not know this flag, and gain less
    FAST += ["--xla_cpu_use_fusion_emitters=false"]


def compile_fast() -> None:
    """Set XLA flags that favor compile time over run time.

    Call it before the process computes anything with JAX. Flags that the user has set come last, so they win.
    """
    os.environ["XLA_FLAGS"] = " ".join((*FAST, os.environ.get("XLA_FLAGS", "")))
