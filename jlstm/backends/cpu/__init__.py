"""The backend `cpu`: the plain LSTM by a native kernel, if one is built. `fused` serves the calls that it cannot run."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends import fused
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.cpu import kernel, primitives
from jlstm.backends.cpu.operands import Inputs
from jlstm.cell import Cell, PyTree
from jlstm.cells.tuples import LSTMCarry

# Below these numbers XLA is faster: measured with 1 to 128 sequences and 16 to 512 units, forwards and in training.
FEWEST_STEPS = 4
FEWEST_ROWS = 128  # time · batch


def run(cell: Cell, inputs: RunInputs, options: RunOptions) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Run the recurrence, with the arguments and results of `scan.run`."""
    # The kernel takes exactly one batch axis, so all are merged for it and split again.
    *batch, units = inputs.carry.h.shape
    ys, h, c = primitives.run(_inputs(inputs, math.prod(batch)), reverse=options.reverse)
    return LSTMCarry(h.reshape(*batch, units), c.reshape(*batch, units)), (ys.reshape(*inputs.xs.shape[:-1], units), None)


def obstacle(cell: Cell, inputs: RunInputs, options: RunOptions) -> str:
    """Return why the kernel cannot run a call, or "": it is for the plain LSTM in float32 and float64."""
    if reason := fused.obstacle(cell, inputs, options):
        return reason
    if (platform := jax.default_backend()) != "cpu":
        return f"JAX computes on {platform}"
    if reason := kernel.obstacle():
        return reason
    masks, leaves = inputs.context.get("inputs"), jax.tree.leaves((inputs.params, inputs.carry, inputs.xs))
    obstacles = {
        "the inputs have a dropout mask for each gate": masks is not None and masks.shape[0] != 1,
        "the carries of all steps are asked for": options.keep is not None,
        "it computes in float32 and float64": inputs.xs.dtype not in (jnp.float32, jnp.float64),
        "a size is symbolic": not all(isinstance(size, int) for size in inputs.xs.shape),
        "arrays are on a mesh with explicit axes, or with some manual ones": any(map(_has_unsupported_mesh, leaves)),
    }
    return next((reason for reason, applies in obstacles.items() if applies), "")


def drawback(inputs: RunInputs) -> str:
    """Return why "auto" should let XLA run a call, or "".

    The kernel packs the weights at every call, which XLA does not. This pays if many rows of inputs use the packed weights. With
    few steps and few sequences, for example a policy inside a JAX loop, XLA is faster.
    """
    steps, *batch = inputs.xs.shape[:-1]
    if steps >= FEWEST_STEPS and steps * math.prod(batch) >= FEWEST_ROWS:
        return ""
    return (
        f"it packs the weights at every call, which pays from {FEWEST_STEPS} steps and {FEWEST_ROWS} rows of all steps on, "
        f"and there are {steps} and {steps * math.prod(batch)}"
    )


def _has_unsupported_mesh(leaf: Array) -> bool:
    mesh = jax.typeof(leaf).sharding.mesh
    return not mesh.empty and set(mesh.axis_types) not in ({jax.sharding.AxisType.Auto}, {jax.sharding.AxisType.Manual})


def _inputs(inputs: RunInputs, batch: int) -> Inputs:
    xs, params = inputs.xs, inputs.params
    time, features = xs.shape[0], xs.shape[-1]
    if inputs.context:
        xs = xs * inputs.context["inputs"]  # one mask for all gates and steps
    units = params["recurrent_kernel"].shape[0]
    bias = params.get("bias", jnp.zeros(4 * units, xs.dtype))
    mask, resets = (
        jnp.zeros((0, 0), bool) if steps is None else steps.reshape(time, batch) for steps in (inputs.mask, inputs.resets)
    )
    h, c = (leaf.reshape(batch, units) for leaf in inputs.carry)
    return _vary_over_the_same_axes(
        Inputs(xs.reshape(time, batch, features), params["kernel"], params["recurrent_kernel"], bias, h, c, mask, resets)
    )


def _vary_over_the_same_axes(inputs: Inputs) -> Inputs:
    """Cast all inputs to vary over the same mesh axes in `shard_map`.

    The transpose of this cast is a sum over the added axes. Weights that are equal on all devices thus get the sum of the
    gradients of all devices.
    """
    varying = [jax.typeof(leaf).manual_axis_type.varying for leaf in inputs]
    all_axes = frozenset().union(*varying)
    missing = (tuple(sorted(all_axes - leaf_axes)) for leaf_axes in varying)
    return Inputs(
        *(jax.lax.pcast(leaf, axes, to="varying") if axes else leaf for leaf, axes in zip(inputs, missing, strict=True))
    )
