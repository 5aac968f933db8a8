"""How XLA compiles the tests: with few optimizations, since nearly all of their time is compilation. Parity is run with all."""

from importlib import metadata

FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if metadata.version("jax").startswith("0.10."):  # a sixth of the time is left; later versions do not know this flag: a third
    FLAGS += ["--xla_cpu_use_fusion_emitters=false"]
