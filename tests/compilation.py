"""How XLA compiles in the tests: with few optimizations, since nearly all of their time is compilation. Parity has all."""

from importlib import metadata

DEVICES = "--xla_force_host_platform_device_count=8"
FAST = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if metadata.version("jax").startswith("0.10."):  # later versions do not know this flag, and gain less
    FAST += ["--xla_cpu_use_fusion_emitters=false"]
