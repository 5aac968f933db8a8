"""Calls of the native kernel. If the batch is sharded, each device calls it with its part of the batch."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from jlstm.backends.cpu import library
from jlstm.backends.cpu.columns import Weights, attributes, weights
from jlstm.backends.cpu.operands import Axes, Inputs, Run, residual_shapes


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


def forward(run: Run, inputs: Inputs, *, keep: bool) -> list[Array]:
    """Run a cell by the native kernel. Return the fields of `Outputs` and, with `keep`, the residuals."""
    has_hs = inputs.stores_h and keep

    def call(*operands: Array) -> list[Array]:
        part = run.inputs(operands)
        time, batch, _ = part.xs.shape
        shapes = [(time, batch, part.carry.h.shape[-1]), *(array.shape for array in _h_and_c(part.carry))]
        shapes += residual_shapes(part)[: 2 + has_hs] if keep else []
        options = attributes(run.cell, reverse=run.reverse)
        ys, h, c, *residuals = _call("jlstm_forward", shapes, _kernel_operands(run, part), options)
        return [ys, *(h, c)[: len(part.carry)], *residuals]

    result_axes = run.output_axes + run.residual_axes[: 2 + has_hs] * keep
    out = _partition_batch(call, run.flat(inputs), run.input_axes, result_axes)
    return [*out, jnp.zeros((0, 0, 0), inputs.xs.dtype)] if keep and not has_hs else out


def transposed(run: Run, operands: Sequence[Array], *, needs_dxs: bool, needs_dweights: bool) -> list[Array]:
    """Return the gradients of the leaves of `Inputs.differentiable` by the native kernel.

    Without `needs_dxs` the gradient of xs is empty, and without `needs_dweights` those of the weights are zero. The kernel then
    leaves out the matmul that computes them.

    Args:
        run: the run.
        operands: its inputs, h before each step, its gates and c, and the gradients of its outputs.
        needs_dxs: whether the gradient of xs is needed.
        needs_dweights: whether those of the weights are.
    """

    def call(*operands: Array) -> list[Array]:
        part, count = run.inputs(operands), len(run.input_axes)
        hs, gates, cs, dys, *dcarry = operands[count:]
        # The map is linear, so its derivative is the same at zeros. Their type does not vary over a mesh, as that of results.
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), part.params)
        own_weights, pull_back = jax.vjp(partial(weights, run.cell), zeros)
        # An empty result tells the kernel to leave out a gradient.
        dxs_shape = part.xs.shape if needs_dxs else (0, 0, 0)
        weights_shapes = [array.shape if needs_dweights else (0,) * array.ndim for array in own_weights]
        # Result 0, the gradient of the pre-activations, is used only inside the kernel, which writes it over the gates.
        shapes = [gates.shape, dxs_shape, *weights_shapes, *(array.shape for array in _h_and_c(part.carry))]
        inputs_operands = _kernel_operands(run, part)
        kernel_operands = [*inputs_operands, hs, gates, cs, dys, *_h_and_c(run.cell.carry_type(*dcarry))]
        options, aliases = attributes(run.cell, reverse=run.reverse), {len(inputs_operands) + 1: 0}
        _, dxs, *gradients = _call("jlstm_backward", shapes, kernel_operands, options, aliases)
        dweights, dh_and_dc = gradients[: len(own_weights)], gradients[len(own_weights) :]
        dparams = pull_back(Weights(*dweights))[0] if needs_dweights else jax.tree.map(jnp.zeros_like, part.params)
        return [dxs, *run.flat(dparams), *dh_and_dc[: len(part.carry)]]

    operand_axes = (*run.input_axes, *run.residual_axes, *run.output_axes)
    return _partition_batch(call, operands, operand_axes, run.tangent_axes)


def _kernel_operands(run: Run, inputs: Inputs) -> list[Array]:
    return [inputs.xs, *weights(run.cell, inputs.params), *_h_and_c(inputs.carry), inputs.mask, inputs.resets]


def _h_and_c(carry: Any) -> tuple[Array, Array]:
    """Return the arrays of a carry. A GRU has no c: it is an array without elements."""
    return carry.h, getattr(carry, "c", carry.h[:, :0])


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
            # XLA calls this in a thread of its own, where float64 is off by default.
            with jax.enable_x64(operands[0].dtype == jnp.float64):
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
