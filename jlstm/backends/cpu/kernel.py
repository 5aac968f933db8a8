"""Calls of the native kernel. If the batch is sharded, each device calls it with its part of the batch."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from jlstm.backends.cpu import library
from jlstm.backends.cpu.operands import (
    INPUT_AXES,
    OUTPUT_AXES,
    RESIDUAL_AXES,
    TANGENT_AXES,
    Axes,
    Inputs,
    Outputs,
    Residuals,
    blocks,
    lanes,
)


@cache
def obstacle() -> str:
    """Register the kernel with XLA. Return why that is not possible, or "". The registration happens once in a process."""
    loaded = library.load()
    if loaded.functions is None:
        return loaded.reason
    try:
        jax.devices("cpu")  # starts JAX before the registration, which is refused while JAX starts
        for name, handler in (("jlstm_forward", "JlstmForward"), ("jlstm_backward", "JlstmBackward")):
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(loaded.functions[handler]), platform="cpu")
    except RuntimeError as error:
        return f"this JAX cannot call the kernel: {error}"
    return ""


def is_callable(context: Any) -> bool:
    """Whether a program that JAX lowers may call the kernel.

    It may not if it is exported, since it may run on another machine, or if it is for several devices without a known mesh.
    """
    module = context.module_context
    axis_context = module.axis_context
    has_one_device = getattr(axis_context, "num_devices", 1) == 1  # inside shard_map there is no `num_devices`
    return not module.lowering_parameters.for_export and (has_one_device or axis_context.abstract_mesh is not None)


def forward(inputs: Inputs, *, keep: bool, cell: str, reverse: bool) -> tuple[Array, ...]:
    """Run a cell by the native kernel. Arguments and results are those of `reference.forward`."""
    has_hs = inputs.stores_h and keep

    def call(*operands: Array) -> list[Array]:
        part = Inputs(*operands)
        time, batch, _ = part.xs.shape
        # The kernel stores gates and c in padded blocks, see `operands.pack`.
        padded = blocks(part.units, part.xs.dtype) * lanes(part.xs.dtype)
        shapes: list[tuple[int, ...]] = [(time, batch, part.units), part.h.shape, part.c.shape]
        if keep:
            shapes += [(time, batch, 4 * padded), (time, batch, padded if part.has_c else 0)]
            shapes += [(time, batch, part.units)] * has_hs
        return _call("jlstm_forward", shapes, part, {"cell": cell, "reverse": reverse})

    result_axes = OUTPUT_AXES + (RESIDUAL_AXES if has_hs else RESIDUAL_AXES[:2]) * keep
    out = _partition_batch(call, inputs, INPUT_AXES, result_axes)
    return (*out, jnp.zeros((0, 0, 0), inputs.xs.dtype)) if keep and not has_hs else tuple(out)


def transposed(
    inputs: Inputs,
    ys: Array,
    residuals: Residuals,
    cotangents: Outputs,
    *,
    cell: str,
    reverse: bool,
    needs_dxs: bool,
    needs_dweights: bool,
) -> tuple[Array, ...]:
    """Compute gradients by the native kernel. Arguments and results are those of `reference.transposed`.

    Without `needs_dxs` the gradient of xs is empty, and without `needs_dweights` those of the weights are. The kernel then leaves
    out the matmul that computes them.
    """

    def call(*operands: Array) -> list[Array]:
        part = Inputs(*operands[: len(inputs)])
        shapes = [array.shape for array in part.differentiable]
        # An empty result tells the kernel to leave out a gradient.
        if not needs_dxs:
            shapes[0] = (0, 0, 0)
        if not needs_dweights:
            shapes[1:4] = [(0, 0), (0, 0), (0,)]
        # Result 0, the gradient of the pre-activations, is used only inside the kernel, which writes it over the gates. The code
        # below drops it.
        gates = operands[len(inputs) + 1]
        options = {"cell": cell, "reverse": reverse}
        return _call("jlstm_backward", [gates.shape, *shapes], operands, options, aliases={len(inputs) + 1: 0})

    operands = (*inputs, residuals.hs if inputs.stores_h else ys, residuals.gates, residuals.cs, *cotangents)
    result_axes = (RESIDUAL_AXES[0], *TANGENT_AXES)
    return tuple(_partition_batch(call, operands, (*INPUT_AXES, *RESIDUAL_AXES, *OUTPUT_AXES), result_axes)[1:])


def _call(
    name: str,
    shapes: Sequence[tuple[int, ...]],
    operands: Sequence[Array],
    options: dict[str, Any],
    aliases: dict[int, int] | None = None,
) -> list[Array]:
    results = [jax.ShapeDtypeStruct(shape, operands[0].dtype) for shape in shapes]
    return list(jax.ffi.ffi_call(name, results, input_output_aliases=aliases)(*operands, **options))


def _partition_batch(call: Callable, operands: Sequence[Array], operand_axes: Axes, result_axes: Axes) -> list[Array]:
    """Call the kernel on each device with its part of the batch, and sum results without a batch axis over the devices.

    Args:
        call: calls the kernel on the operands of one device.
        operands: the operands, of which the first is xs (time, batch, features).
        operand_axes: the batch axis of each operand, None if it has none.
        result_axes: the batch axis of each result, None if it has none.

    Returns:
        The results.
    """

    def specs(arrays: Sequence[Any], batch_axes: Axes, mesh_axis: Any) -> list[PartitionSpec]:
        return [
            PartitionSpec(*(mesh_axis if k == batch_axis and any(array.shape) else None for k in range(len(array.shape))))
            for array, batch_axis in zip(arrays, batch_axes, strict=True)
        ]

    def partition(mesh: Any, arg_shapes: Sequence[Any], result_shapes: Sequence[Any]) -> Any:
        xs_spec = arg_shapes[0].sharding.spec
        mesh_axis = xs_spec[1] if len(xs_spec) > 1 else None

        def lower(*operands: Array) -> list[Array]:
            out = call(*operands)
            # A gradient of weights is the sum over the batch, of which each device has computed its part.
            return [
                x if batch_axis is not None or mesh_axis is None else jax.lax.psum(x, mesh_axis)
                for x, batch_axis in zip(out, result_axes, strict=True)
            ]

        result_shardings, arg_shardings = (
            [NamedSharding(mesh, spec) for spec in specs(arrays, batch_axes, mesh_axis)]
            for arrays, batch_axes in ((result_shapes, result_axes), (arg_shapes, operand_axes))
        )
        return mesh, lower, result_shardings, tuple(arg_shardings)

    # A sharding rule names each axis, and axes of the same name are sharded alike. All batch axes are called `batch`. Every other
    # axis has a name of its own: xs, the first operand, is "in0_0 batch in0_2".
    def factors(arrays: Sequence[Any], batch_axes: Axes, prefix: str) -> str:
        return ", ".join(
            " ".join(
                "batch" if k == batch_axis and any(array.shape) else f"{prefix}{number}_{k}" for k in range(len(array.shape))
            )
            for number, (array, batch_axis) in enumerate(zip(arrays, batch_axes, strict=True))
        )

    results = jax.eval_shape(call, *operands)
    rule = f"{factors(operands, operand_axes, 'in')} -> {factors(results, result_axes, 'out')}"
    # all axes but the batch must be whole on each device
    replicated = tuple(dict.fromkeys(name for name in rule.replace(",", " ").split() if name not in ("batch", "->")))
    partitioned = custom_partitioning(call)
    partitioned.def_partition(partition, sharding_rule=rule, need_replication_factors=replicated)
    return partitioned(*operands)


def _devices() -> Any:
    """Return a jaxpr that JAX cannot lower before the devices are known, because of its custom partitioning.

    The primitives have it as a parameter, so that programs with them cannot be lowered before that either.
    """
    identity = custom_partitioning(lambda x: x)
    identity.def_partition(lambda mesh, arg, result: (mesh, lambda x: x, result, arg), sharding_rule="i -> i")
    return jax.make_jaxpr(identity)(jax.ShapeDtypeStruct((1,), jnp.float32))


DEVICES = _devices()
