"""What the native kernels share: the primitives that JAX sees, their operands, the layout of weights, and sharding.

`primitives` is the entry. It lowers a run to the kernel that is registered for the platform, and to `reference`, plain JAX, on
every other. A kernel is a module with the functions of `primitives.Kernel`.
"""
