"""The backend `cpu`: the plain LSTM and GRU by a native kernel, if one is built. XLA serves the calls that it cannot run."""

import math
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends import fused
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.cpu import kernel, primitives
from jlstm.backends.cpu.operands import Inputs
from jlstm.cell import Cell, PyTree
from jlstm.cells.gru import GRUCell
from jlstm.cells.tuples import HiddenCarry, LSTMCarry

# Below these numbers XLA is faster: measured with 1 to 128 sequences and 16 to 512 units, forwards and in training.
FEWEST_STEPS = 4
FEWEST_ROWS = 128  # time · batch

# Options of a GRU that may have any value. Recurrent dropout has an effect only if the context holds its masks.
GRU_OPTIONS = {"units", "use_bias", "dropout", "recurrent_dropout", "kernel_init", "recurrent_init", "bias_init"}


def run(cell: Cell, inputs: RunInputs, options: RunOptions) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Run the recurrence, with the arguments and results of `scan.run`."""
    is_gru = isinstance(cell, GRUCell)
    operands = (_gru_inputs if is_gru else _lstm_inputs)(cell, inputs)
    ys, h, c = primitives.run(operands, cell="gru" if is_gru else "lstm", reverse=options.reverse)
    shape = inputs.carry.h.shape
    carry = HiddenCarry(h.reshape(shape)) if is_gru else LSTMCarry(h.reshape(shape), c.reshape(shape))
    return carry, (ys.reshape(*inputs.xs.shape[:-1], cell.features_out), None)


def obstacle(cell: Cell, inputs: RunInputs, options: RunOptions) -> str:
    """Return why the kernel cannot run a call, or "": it is for the plain LSTM and GRU in float32 and float64."""
    if reason := _gru_obstacle(cell, inputs) if type(cell) is GRUCell else fused.obstacle(cell, inputs, options):
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


def _gru_obstacle(cell: GRUCell, inputs: RunInputs) -> str:
    if (cell.recurrent_activation, cell.activation) != ("sigmoid", "tanh"):
        return "it is for the activations sigmoid and tanh"
    for option in fields(cell):  # by name, so that a new option is refused until the kernel supports it
        if option.name not in GRU_OPTIONS and getattr(cell, option.name) != option.default:
            return f"it is for GRUs with {option.name}={option.default}"
    return "h has dropout" if "recurrent" in inputs.context else ""


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


def _lstm_inputs(cell: Any, inputs: RunInputs) -> Inputs:
    kernel, recurrent_kernel = inputs.params["kernel"], inputs.params["recurrent_kernel"]
    bias = inputs.params["bias"] if cell.use_bias else jnp.zeros(kernel.shape[-1], kernel.dtype)
    return _operands(inputs, kernel, recurrent_kernel, bias, inputs.carry.c)


def _gru_inputs(cell: Any, inputs: RunInputs) -> Inputs:
    """Return the operands for the columns z, r, a and b of `operands`."""
    kernel, recurrent_kernel = inputs.params["kernel"], inputs.params["recurrent_kernel"]
    units = recurrent_kernel.shape[0]
    candidate = recurrent_kernel[:, 2 * units :]
    biases = [inputs.params["bias"], inputs.params["recurrent_bias"]] if cell.use_bias else [jnp.zeros(4 * units, kernel.dtype)]
    return _operands(
        inputs,
        jnp.concatenate([kernel, jnp.zeros((kernel.shape[0], units), kernel.dtype)], axis=1),
        jnp.concatenate([recurrent_kernel[:, : 2 * units], jnp.zeros_like(candidate), candidate], axis=1),
        jnp.concatenate(biases),
        inputs.carry.h[..., :0],
    )


def _operands(inputs: RunInputs, kernel: Array, recurrent_kernel: Array, bias: Array, c: Array) -> Inputs:
    xs, h = inputs.xs, inputs.carry.h
    if inputs.context:
        xs = xs * inputs.context["inputs"]  # one mask for all gates and steps
    # The kernel takes exactly one batch axis, so all are merged for it and split again.
    time, batch = xs.shape[0], math.prod(h.shape[:-1])
    xs, h, c = xs.reshape(time, batch, xs.shape[-1]), h.reshape(batch, h.shape[-1]), c.reshape(batch, c.shape[-1])
    mask, resets = (
        jnp.zeros((0, 0), bool) if steps is None else steps.reshape(time, batch) for steps in (inputs.mask, inputs.resets)
    )
    return _vary_over_the_same_axes(Inputs(xs, kernel, recurrent_kernel, bias, h, c, mask, resets))


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
