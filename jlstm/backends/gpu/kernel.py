"""Calls of the kernel for GPUs, as `native.primitives.Kernel` describes them.

The kernel runs only the recurrence. What goes before and after it, the products over all steps, is in `products`.
"""

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jlstm.backends.gpu import compiler, library, plan, products, residuals
from jlstm.backends.gpu.plan import Direction, Plan
from jlstm.backends.native import reference
from jlstm.backends.native.columns import attributes, pull_back, weights
from jlstm.backends.native.operands import Inputs, Run, h_and_c, residual_shapes
from jlstm.backends.native.partition import partition_batch
from jlstm.cells.base import RecurrentCell

LOG = logging.getLogger(__name__)
NOTHING_TO_RUN = "there are no steps or no sequences"
LAUNCH_SIZES = ("blocks", "threads", "cluster", "shared_bytes", "counters", "rows")  # fields of a plan that the handlers read


class Compiled(NamedTuple):
    """A kernel that is compiled for a cell, a direction, a size and the GPUs of this process."""

    plan: Plan
    path: Path


def obstacle() -> str:
    """Return why this process has no kernel, or "". The first call registers the kernel with XLA."""
    return library.obstacle()


def size_obstacle(cell: RecurrentCell, time: int, batch: int) -> str:
    """Return why there is no kernel for a size, or "".

    On several devices the batch may be divided among them, in a way that is known only when XLA compiles the program. Then the
    smallest part that a device may get decides, and nothing is compiled here.
    """
    if 0 in (time, batch):
        return NOTHING_TO_RUN
    cell_name, units = attributes(cell, reverse=False)["cell"], cell.features_out
    if len(jax.devices()) == 1:
        kernel = compiled("forward", cell_name, units, batch)
        return kernel if isinstance(kernel, str) else ""
    choice = plan.plan("forward", cell_name, units, _part_of(batch), library.gpu())
    return choice if isinstance(choice, str) else ""


def _part_of(batch: int) -> int:
    """Return the smallest part of a batch that a device may get."""
    return max(1, batch // len(jax.devices()))


def size_drawback(units: int, batch: int) -> str:
    """Return why XLA may be faster for a size, or ""."""
    part = _part_of(batch)
    choice = plan.plan("forward", "lstm", units, part, library.gpu())  # cells differ in what they compute, not in the plan
    if isinstance(choice, str) or choice.rows >= part:
        return ""
    return f"the GPU has room for {choice.rows} of {part} sequences of {units} units at a time"


def compiled(direction: Direction, cell_name: str, units: int, batch: int) -> Compiled | str:
    """Return the kernel for a size, compiled now or taken from the cache on disk, or why there is none, in one sentence."""
    kernel = _compiled(direction, cell_name, units, batch)
    if isinstance(kernel, Compiled) and not kernel.path.exists():  # the folder may be deleted at any time
        _compiled.cache_clear()
        return _compiled(direction, cell_name, units, batch)
    return kernel


@cache
def _compiled(direction: Direction, cell_name: str, units: int, batch: int) -> Compiled | str:
    gpu = library.gpu()
    choice = plan.plan(direction, cell_name, units, batch, gpu)
    if isinstance(choice, str):
        return choice
    try:
        return Compiled(choice, compiler.kernel(cell_name, direction, choice, gpu, units))
    except compiler.CompilationError as error:
        return str(error)


def forward(run: Run, inputs: Inputs, *, keep: bool) -> list[Array]:
    """Run a cell. Return the fields of `Outputs` and, with `keep`, the residuals."""
    has_hs = inputs.stores_h and keep

    def call(*operands: Array) -> list[Array]:
        part = run.inputs(operands)
        kernel = _kernel("forward", run, part)
        if kernel is None:
            return residuals.forward(run, part, keep=keep)
        own_weights, (h0, c0) = weights(run.cell, part.params), h_and_c(part.carry)
        zs = products.project(part.xs, own_weights)
        shapes = [(*part.xs.shape[:2], h0.shape[-1]), h0.shape, c0.shape]
        shapes += residual_shapes(part)[: 2 + has_hs] if keep else []
        kernel_operands = [zs, own_weights.recurrent_kernel, own_weights.peepholes, h0, c0, part.mask, part.resets]
        ys, h, c, *kept = _call("jlstm_gpu_forward", shapes, kernel_operands, kernel, run)
        return [ys, *(h, c)[: len(part.carry)], *kept]

    result_axes = run.output_axes + run.residual_axes[: 2 + has_hs] * keep
    out = partition_batch(call, run.flat(inputs), run.input_axes, result_axes)
    return [*out, jnp.zeros((0, 0, 0), inputs.xs.dtype)] if keep and not has_hs else out


def transposed(run: Run, operands: Sequence[Array], *, needs_dxs: bool, needs_dweights: bool) -> list[Array]:
    """Return the gradients of the leaves of `Inputs.differentiable`.

    Without `needs_dxs` the gradient of xs is empty, and without `needs_dweights` those of the weights are zero.
    """

    def call(*operands: Array) -> list[Array]:
        part, count = run.inputs(operands), len(run.input_axes)
        hs, gates, cs, dys, *dcarry = operands[count + 1 :]  # ys is not read
        kernel = _kernel("backward", run, part)
        if kernel is None:
            dxs, *other_gradients = reference.transposed(run, part, [dys, *dcarry])
            return [dxs if needs_dxs else dxs[:0, :0, :0], *other_gradients]
        own_weights, (h0, c0) = weights(run.cell, part.params), h_and_c(part.carry)
        kernel_operands = [own_weights.recurrent_kernel, own_weights.peepholes, h0, part.mask, part.resets, hs, gates, cs]
        kernel_operands += [dys, *h_and_c(run.cell.carry_type(*dcarry))]
        peepholes = own_weights.peepholes.shape
        shapes = [gates.shape, (len(h0), *peepholes) if any(peepholes) else (0, 0, 0), h0.shape, c0.shape]
        # The gradient of the pre-activations is written over the gates.
        dzs, dpeepholes, *dh_and_dc = _call("jlstm_gpu_backward", shapes, kernel_operands, kernel, run, aliases={6: 0})
        dxs = products.input_gradient(dzs, own_weights) if needs_dxs else dzs[:0, :0, :0]
        dparams = jax.tree.map(jnp.zeros_like, part.params)
        if needs_dweights:
            dweights = products.weight_gradients(part, hs, dzs, dpeepholes, reverse=run.reverse)
            dparams = pull_back(run.cell, part.params, dweights)
        return [dxs, *run.flat(dparams), *dh_and_dc[: len(part.carry)]]

    operand_axes = (*run.input_axes, 1, *run.residual_axes, *run.output_axes)  # 1: the batch axis of ys
    return partition_batch(call, operands, operand_axes, run.tangent_axes)


def _kernel(direction: Direction, run: Run, inputs: Inputs) -> Compiled | None:
    """Return the kernel for the part of a run that one device has, or None if XLA must run it."""
    time, batch, _ = inputs.xs.shape
    if 0 in (time, batch) or inputs.xs.dtype != jnp.float32:
        return None
    kernel = compiled(direction, attributes(run.cell, reverse=run.reverse)["cell"], run.cell.features_out, batch)
    if isinstance(kernel, str):
        _warn(kernel)
        return None
    return kernel


@cache
def _warn(reason: str) -> None:
    LOG.warning("XLA runs what the kernel for GPUs should: %s", reason)


def _call(
    target: str,
    shapes: Sequence[tuple[int, ...]],
    operands: Sequence[Array],
    kernel: Compiled,
    run: Run,
    aliases: dict[int, int] | None = None,
) -> list[Array]:
    """Call the kernel and return its results, without the workspace, which is the last one.

    Args:
        target: the name that the kernel is registered with.
        shapes: the shapes of the results.
        operands: the operands.
        kernel: the compiled kernel.
        run: the run.
        aliases: the result that takes the memory of an operand, by the number of the operand.
    """
    results = [*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)]
    results.append(jax.ShapeDtypeStruct((kernel.plan.workspace_bytes,), jnp.uint8))
    options = attributes(run.cell, reverse=run.reverse) | {name: np.int32(getattr(kernel.plan, name)) for name in LAUNCH_SIZES}
    options |= {"cooperative": kernel.plan.cooperative, "kernel": str(kernel.path)}
    return list(jax.ffi.ffi_call(target, results, input_output_aliases=aliases)(*operands, **options))[:-1]
