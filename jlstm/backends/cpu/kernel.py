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
from jlstm.backends.cpu.operands import OF_CHANGE, OF_INPUTS, OF_KEPT, OF_OUTPUTS, Axes, Inputs, Kept, Outputs, blocks, lanes


@cache
def obstacle() -> str:
    """Register the kernel with XLA. Return why that is not possible, or ""."""
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


def forward(inputs: Inputs, *, keep: bool, reverse: bool) -> tuple[Array, ...]:
    """Do what `reference.forward` does."""
    carried = inputs.carried and keep

    def call(*operands: Array) -> list[Array]:
        part = Inputs(*operands)
        time, batch, _ = part.xs.shape
        padded = blocks(part.units, part.xs.dtype) * lanes(part.xs.dtype)
        shapes: list[tuple[int, ...]] = [(time, batch, part.units), (batch, part.units), (batch, part.units)]
        if keep:
            shapes += [(time, batch, 4 * padded), (time, batch, padded)] + [(time, batch, part.units)] * carried
        return _call("jlstm_forward", shapes, part, reverse)

    of_results = OF_OUTPUTS + (OF_KEPT if carried else OF_KEPT[:2]) * keep
    out = _each_its_part(call, inputs, OF_INPUTS, of_results)
    return (*out, jnp.zeros((0, 0, 0), inputs.xs.dtype)) if keep and not carried else tuple(out)


def transposed(
    inputs: Inputs, ys: Array, kept: Kept, change: Outputs, *, reverse: bool, of_inputs: bool, of_weights: bool
) -> tuple[Array, ...]:
    """Do what `reference.transposed` does. Without `of_inputs` or `of_weights` the gradients of xs or the weights are empty."""

    def call(*operands: Array) -> list[Array]:
        part = Inputs(*operands[: len(inputs)])
        shapes = [array.shape for array in part.differentiable]
        if not of_inputs:
            shapes[0] = (0, 0, 0)
        if not of_weights:
            shapes[1:4] = [(0, 0), (0, 0), (0,)]
        gates = operands[len(inputs) + 1]  # result 0, which is dropped below, uses their memory
        return _call("jlstm_backward", [gates.shape, *shapes], operands, reverse, {len(inputs) + 1: 0})

    operands = (*inputs, kept.hs if inputs.carried else ys, kept.gates, kept.cs, *change)
    of_results = (OF_KEPT[0], *OF_CHANGE)
    return tuple(_each_its_part(call, operands, (*OF_INPUTS, *OF_KEPT, *OF_OUTPUTS), of_results)[1:])


def _call(
    name: str, shapes: Sequence[tuple[int, ...]], operands: Sequence[Array], reverse: bool, aliases: dict[int, int] | None = None
) -> list[Array]:
    results = [jax.ShapeDtypeStruct(shape, operands[0].dtype) for shape in shapes]
    return list(jax.ffi.ffi_call(name, results, input_output_aliases=aliases)(*operands, reverse=reverse))


def _each_its_part(call: Callable, operands: Sequence[Array], of_operands: Axes, of_results: Axes) -> list[Array]:
    """Call the kernel on each device with its part of the batch, and sum results without a batch axis over the devices.

    `of_operands` and `of_results` are the batch axes. The sharding rule names one factor `batch` in all arrays that have one:
    an array (time, batch, features) as first operand is "in0_0 batch in0_2".
    """

    def specs(arrays: Sequence[Any], of: Axes, axis: Any) -> list[PartitionSpec]:
        return [
            PartitionSpec(*(axis if k == at and any(array.shape) else None for k in range(len(array.shape))))
            for array, at in zip(arrays, of, strict=True)
        ]

    def partition(mesh: Any, given: Sequence[Any], wanted: Sequence[Any]) -> Any:
        spec = given[0].sharding.spec  # of xs
        axis = spec[1] if len(spec) > 1 else None

        def lower(*operands: Array) -> list[Array]:
            out = call(*operands)
            return [x if at is not None or axis is None else jax.lax.psum(x, axis) for x, at in zip(out, of_results, strict=True)]

        to, back = (
            [NamedSharding(mesh, spec) for spec in specs(*of, axis)] for of in ((wanted, of_results), (given, of_operands))
        )
        return mesh, lower, to, tuple(back)

    def factors(arrays: Sequence[Any], of: Axes, prefix: str) -> str:
        shapes = zip(arrays, of, strict=True)
        return ", ".join(
            " ".join("batch" if k == at and any(array.shape) else f"{prefix}{number}_{k}" for k in range(len(array.shape)))
            for number, (array, at) in enumerate(shapes)
        )

    results = jax.eval_shape(call, *operands)
    rule = f"{factors(operands, of_operands, 'in')} -> {factors(results, of_results, 'out')}"
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
    identity.def_partition(lambda mesh, given, wanted: (mesh, lambda x: x, wanted, given), sharding_rule="i -> i")
    return jax.make_jaxpr(identity)(jax.ShapeDtypeStruct((1,), jnp.float32))


DEVICES = _devices()
