"""Calls of the kernel for CPUs, as `native.primitives.Kernel` describes them."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jlstm.backends.cpu import library
from jlstm.backends.native.columns import Weights, attributes, pull_back, weights
from jlstm.backends.native.operands import Inputs, Run, h_and_c, residual_shapes
from jlstm.backends.native.partition import partition_batch


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


def forward(run: Run, inputs: Inputs, *, keep: bool) -> list[Array]:
    """Run a cell. Return the fields of `Outputs` and, with `keep`, the residuals."""
    has_hs = inputs.stores_h and keep

    def call(*operands: Array) -> list[Array]:
        part = run.inputs(operands)
        time, batch, _ = part.xs.shape
        shapes = [(time, batch, part.carry.h.shape[-1]), *(array.shape for array in h_and_c(part.carry))]
        shapes += residual_shapes(part)[: 2 + has_hs] if keep else []
        options = _options(run)
        ys, h, c, *residuals = _call("jlstm_forward", shapes, _kernel_operands(run, part), options)
        return [ys, *(h, c)[: len(part.carry)], *residuals]

    result_axes = run.output_axes + run.residual_axes[: 2 + has_hs] * keep
    out = partition_batch(call, run.flat(inputs), run.input_axes, result_axes)
    return [*out, jnp.zeros((0, 0, 0), inputs.xs.dtype)] if keep and not has_hs else out


def transposed(run: Run, operands: Sequence[Array], *, needs_dxs: bool, needs_dweights: bool) -> list[Array]:
    """Return the gradients of the leaves of `Inputs.differentiable`.

    Without `needs_dxs` the gradient of xs is empty, and without `needs_dweights` those of the weights are zero.
    """

    def call(*operands: Array) -> list[Array]:
        part, count = run.inputs(operands), len(run.input_axes)
        ys, hs, gates, cs, dys, *dcarry = operands[count:]
        # An empty result tells the kernel to leave out a gradient.
        dxs_shape = part.xs.shape if needs_dxs else (0, 0, 0)
        inputs_operands = _kernel_operands(run, part)
        own_weights = Weights(*inputs_operands[1 : 1 + len(Weights._fields)])
        weights_shapes = [array.shape if needs_dweights else (0,) * array.ndim for array in own_weights]
        # Only the kernel uses results 0 to 2, which it writes over gates, cs and dys. They are the gradient of the
        # pre-activations and, with a projection, what is projected and the gradient of the result.
        first = len(inputs_operands) + 2
        written = {first: gates.shape, first + 1: cs.shape, first + 2: dys.shape}
        if not own_weights.projection.size:
            written = {first: gates.shape}
        scratch_shapes = [*written.values(), *((0, 0, 0),) * (3 - len(written))]
        shapes = [*scratch_shapes, dxs_shape, *weights_shapes, *(array.shape for array in h_and_c(part.carry))]
        kernel_operands = [*inputs_operands, ys, hs, gates, cs, dys, *h_and_c(run.cell.carry_type(*dcarry))]
        aliases = {operand: result for result, operand in enumerate(written)}
        _, _, _, dxs, *gradients = _call("jlstm_backward", shapes, kernel_operands, _options(run), aliases)
        dweights, dh_and_dc = gradients[: len(own_weights)], gradients[len(own_weights) :]
        dparams = jax.tree.map(jnp.zeros_like, part.params)
        if needs_dweights:
            dparams = pull_back(run.cell, part.params, Weights(*dweights))
        return [dxs, *run.flat(dparams), *dh_and_dc[: len(part.carry)]]

    operand_axes = (*run.input_axes, 1, *run.residual_axes, *run.output_axes)  # 1: the batch axis of ys
    return partition_batch(call, operands, operand_axes, run.tangent_axes)


def _options(run: Run) -> dict[str, Any]:
    clip = getattr(run.cell, "projection_clip", None) or np.inf
    return attributes(run.cell, reverse=run.reverse) | {"projection_clip": np.float64(clip)}


def _kernel_operands(run: Run, inputs: Inputs) -> list[Array]:
    return [inputs.xs, *weights(run.cell, inputs.params), *h_and_c(inputs.carry), inputs.mask, inputs.resets]


def _call(
    name: str,
    shapes: Sequence[tuple[int, ...]],
    operands: Sequence[Array],
    options: dict[str, Any],
    aliases: dict[int, int] | None = None,
) -> list[Array]:
    results = [jax.ShapeDtypeStruct(shape, operands[0].dtype) for shape in shapes]
    return list(jax.ffi.ffi_call(name, results, input_output_aliases=aliases)(*operands, **options))
