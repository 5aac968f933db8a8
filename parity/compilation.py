"""Few of XLA's optimizations: nearly all of a table's time is compilation."""

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
    """Let JAX compile fast rather than well, in a process that has not computed yet; a user's own flags come last and win."""
    os.environ["XLA_FLAGS"] = " ".join((*FAST, os.environ.get("XLA_FLAGS", "")))
