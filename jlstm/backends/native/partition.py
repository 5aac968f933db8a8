"""Calls of a native kernel on the devices of a mesh: each device calls it with its part of the batch."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from jlstm.backends.native.operands import Axes, default_precision


def is_callable(context: Any) -> bool:
    """Whether a program that JAX lowers may call the kernel.

    It may not if it is exported, since it may run on another machine, or if it is for several devices without a known mesh.
    """
    module = context.module_context
    axis_context = module.axis_context
    has_one_device = getattr(axis_context, "num_devices", 1) == 1  # inside shard_map there is no `num_devices`
    return not module.lowering_parameters.for_export and (has_one_device or axis_context.abstract_mesh is not None)


def partition_batch(call: Callable, operands: Sequence[Array], operand_axes: Axes, result_axes: Axes) -> list[Array]:
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

    precision = default_precision()

    def partition(mesh: Any, arg_shapes: Sequence[Any], result_shapes: Sequence[Any]) -> Any:
        xs_spec = arg_shapes[0].sharding.spec
        mesh_axis = xs_spec[1] if len(xs_spec) > 1 else None

        def lower(*operands: Array) -> list[Array]:
            # XLA calls this in a thread of its own, where float64 is off and the precision of products is the default.
            with jax.enable_x64(operands[0].dtype == jnp.float64), jax.default_matmul_precision(precision):
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
