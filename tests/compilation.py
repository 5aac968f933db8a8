"""How XLA compiles the tests: with few optimizations on one version of JAX, as users have it on all others."""

from importlib import metadata

FLAGS = ["--xla_force_host_platform_device_count=8"]
if metadata.version("jax").startswith("0.10."):  # nearly all of a test's time is compilation: a sixth of it remains
    FLAGS += [
        "--xla_backend_optimization_level=0",
        "--xla_cpu_parallel_codegen_split_count=1",
        "--xla_cpu_use_fusion_emitters=false",
    ]
