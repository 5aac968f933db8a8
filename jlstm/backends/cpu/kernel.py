"""Calls of the native kernel, each device with its own part of the batch."""

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
    """Make the kernel known to XLA; return why that cannot be, or nothing."""
    found = library.load()
    if found.functions is None:
        return found.reason
    try:
        jax.devices("cpu")  # before the registration, which otherwise would be refused in the middle of JAX' start
        for name, handler in (("jlstm_forward", "JlstmForward"), ("jlstm_backward", "JlstmBackward")):
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(found.functions[handler]), platform="cpu")
    except RuntimeError as error:
        return f"this JAX cannot call the kernel: {error}"
    return ""


def is_callable(context: Any) -> bool:
    """Whether a program that is being lowered may call the kernel: not if it is to run elsewhere or its mesh is not known."""
    module = context.module_context
    around = module.axis_context
    on_one = getattr(around, "num_devices", 1) == 1  # there is no such number inside shard_map
    return not module.lowering_parameters.for_export and (on_one or around.abstract_mesh is not None)


def forward(inputs: Inputs, *, keep: bool, reverse: bool) -> tuple[Array, ...]:
    """The same as `reference.forward`."""
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
    """The same as `reference.transposed`; without `of_inputs` or `of_weights` those are empty."""

    def call(*operands: Array) -> list[Array]:
        part = Inputs(*operands[: len(inputs)])
        shapes = [array.shape for array in part.differentiable]
        if not of_inputs:
            shapes[0] = (0, 0, 0)
        if not of_weights:
            shapes[1:4] = [(0, 0), (0, 0), (0,)]
        gates = operands[len(inputs) + 1]
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
    """Where the batch is spread over devices, each of them calls with its part of it; what has no batch is summed over them."""

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
            [NamedSharding(mesh, each) for each in specs(*of, axis)] for of in ((wanted, of_results), (given, of_operands))
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
    others = tuple(dict.fromkeys(name for name in rule.replace(",", " ").split() if name not in ("batch", "->")))
    spread = custom_partitioning(call)
    spread.def_partition(partition, sharding_rule=rule, need_replication_factors=others)
    return spread(*operands)


def _devices() -> Any:
    """A program that cannot be lowered before its devices are known; one that has it for a parameter cannot either."""
    identity = custom_partitioning(lambda x: x)
    identity.def_partition(lambda mesh, given, wanted: (mesh, lambda x: x, wanted, given), sharding_rule="i -> i")
    return jax.make_jaxpr(identity)(jax.ShapeDtypeStruct((1,), jnp.float32))


DEVICES = _devices()
