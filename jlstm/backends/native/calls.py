"""What the backends that run a native kernel share: which calls a kernel can take, and how it is called."""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.native import primitives
from jlstm.backends.native.operands import Inputs, vary_over, varying_axes
from jlstm.cell import PyTree
from jlstm.cells.gru import GRUCell
from jlstm.cells.lstm import LSTMCell

Options = dict[type, set[str]]  # by the class of a cell: options that a kernel has, or that have no effect on the run

# Options that all kernels have. Recurrent dropout has an effect only if the context holds its masks.
OPTIONS: Options = {
    LSTMCell: {"activation", "recurrent_activation", "output_activation", "peephole", "coupled", "cell_clip", "gate_clip"}
    | {"units", "use_bias", "forget_bias", "dropout", "recurrent_dropout", "recurrent_dropout_on"}
    | {"kernel_init", "recurrent_init", "bias_init"},
    GRUCell: {"units", "use_bias", "dropout", "recurrent_dropout", "kernel_init", "recurrent_init", "bias_init"},
}
FUNCTIONS = ("sigmoid", "tanh", "hard_sigmoid", "hard_sigmoid_0.2", "hard_tanh", "relu", "linear")  # function_of in functions.h

SIXTEEN_BITS = ("bfloat16", "float16")  # which the kernels compute in float32


def run(cell: Any, inputs: RunInputs, options: RunOptions) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Run the recurrence, with the arguments and results of `scan.run`.

    What has 16 bits is widened for the kernel and rounded afterwards. So only inputs, parameters, outputs and the last carry are
    rounded, not the carry of each step.
    """
    ys, carry = primitives.run(jax.tree.map(_widen, _inputs(inputs)), cell, reverse=options.reverse)
    carry = jax.tree.map(lambda leaf, like: leaf.reshape(like.shape).astype(like.dtype), carry, inputs.carry)
    return carry, (ys.reshape(*inputs.xs.shape[:-1], cell.features_out).astype(inputs.xs.dtype), None)


def cell_obstacle(cell: Any, options: Options = OPTIONS) -> str:
    """Return why a kernel with some options cannot run a cell, or ""."""
    # Not isinstance: a subclass may override the step.
    if type(cell) not in options:
        return f"it is not for {type(cell).__name__}"
    # By name, so that a new option is refused until the kernel supports it.
    for option in fields(cell):
        if option.name not in options[type(cell)] and (value := getattr(cell, option.name)) != option.default:
            return f"it is not for {option.name}={value!r}"
    for function in (cell.activation, cell.recurrent_activation, getattr(cell, "output_function", "tanh")):
        if not isinstance(function, str):
            return "an activation function is a callable and not a name"
        if function not in FUNCTIONS:
            return f"it has no activation function {function}"
    return ""


def call_obstacle(inputs: RunInputs, options: RunOptions, dtypes: Sequence[str]) -> str:
    """Return why a kernel that computes in some dtypes, of which float32 is one, cannot run a call, or ""."""
    masks, leaves = inputs.context.get("inputs"), jax.tree.leaves((inputs.params, inputs.carry, inputs.xs))
    obstacles = {
        "h or g has dropout": "recurrent" in inputs.context,
        "the inputs have a dropout mask for each gate": masks is not None and masks.shape[0] != 1,
        "the carries of all steps are asked for": options.keep is not None,
        f"it computes in {' and '.join(dtypes)}": inputs.xs.dtype.name not in (*dtypes, *SIXTEEN_BITS),
        "a size is symbolic": not all(isinstance(size, int) for size in inputs.xs.shape),
        "arrays are on a mesh with explicit axes, or with some manual ones": any(map(_has_unsupported_mesh, leaves)),
    }
    return next((reason for reason, applies in obstacles.items() if applies), "")


def platform_obstacle(platform: str) -> str:
    """Return why a kernel for a platform, "cpu" or "gpu", cannot run what JAX computes on another one, or ""."""
    return "" if jax.default_backend() == platform else f"JAX computes on {jax.default_backend()}"


def _has_unsupported_mesh(leaf: Array) -> bool:
    mesh = jax.typeof(leaf).sharding.mesh
    return not mesh.empty and set(mesh.axis_types) not in ({jax.sharding.AxisType.Auto}, {jax.sharding.AxisType.Manual})


def _inputs(inputs: RunInputs) -> Inputs:
    xs = inputs.xs * inputs.context["inputs"] if inputs.context else inputs.xs  # one mask for all gates and steps
    # A kernel takes exactly one batch axis, so all are merged for it and split again.
    time, batch = xs.shape[0], math.prod(inputs.carry.h.shape[:-1])
    carry = jax.tree.map(lambda leaf: leaf.reshape(batch, leaf.shape[-1]), inputs.carry)
    mask, resets = (
        jnp.zeros((0, 0), bool) if steps is None else steps.reshape(time, batch) for steps in (inputs.mask, inputs.resets)
    )
    return _vary_over_the_same_axes(Inputs(xs.reshape(time, batch, xs.shape[-1]), inputs.params, carry, mask, resets))


def _widen(leaf: Array) -> Array:
    return leaf.astype("float32") if leaf.dtype.name in SIXTEEN_BITS else leaf


def _vary_over_the_same_axes(inputs: Inputs) -> Inputs:
    """Cast all inputs to vary over the same mesh axes in `shard_map`.

    Weights that are equal on all devices thus get the sum of the gradients of all devices.
    """
    axes = frozenset().union(*map(varying_axes, jax.tree.leaves(inputs)))
    return jax.tree.map(lambda leaf: vary_over(leaf, axes), inputs)
