"""Everything that is to be known of the GPU kernel on a GPU, by one command: is it right, how fast is it, what does it need.

    python -m benchmarks.gpu                  all parts, at most seven minutes
    python -m benchmarks.gpu --minutes 3      what fits into three minutes
    python -m benchmarks.gpu --parts checks   only the checks

It needs an NVIDIA GPU, a C++ compiler, JAX for CUDA, jaxtyping, safetensors, and this repository on PYTHONPATH. PyTorch, Flax and
matplotlib are used where they are installed. The parts are:

- build: compile the host library of the kernel, if there is none for these sources.
- checks: values, gradients, repeatability and more, see `checks`.
- speed: sizes of the benchmark `benchmarks.speed`, in turns with PyTorch's cuDNN and others.
- sanitizer: NVIDIA's compute-sanitizer on a small case, if it is on the PATH.

Results are written to benchmarks/results/gpu.json after every measurement, and at the end to gpu.md and gpu.png beside it.
"""
