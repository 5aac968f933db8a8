"""The plain LSTM by a native kernel, where one is built; what it does not cover runs as `fused` does."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends import fused
from jlstm.backends.cpu import library, primitives
from jlstm.backends.cpu.operands import Inputs
from jlstm.backends.scan import Recurrence, Way
from jlstm.cell import Carry, Cell, PyTree


def run(cell: Cell, start: Recurrence, way: Way) -> tuple[PyTree, tuple[Array, PyTree]]:
    """The same as `scan.run`."""
    if obstacle(cell, start, way) is not None:
        return fused.run(cell, start, way)
    *batch, units = start.carry.h.shape
    outputs = primitives.run(_inputs(start, math.prod(batch)), reverse=way.reverse)
    h, c = (each.reshape(*batch, units) for each in (outputs.h, outputs.c))
    return Carry(h, c), (outputs.ys.reshape(*start.xs.shape[:-1], units), None)


def obstacle(cell: Cell, start: Recurrence, way: Way) -> str | None:
    """Say in a few words why the kernel cannot serve a call, or None."""
    if (reason := library.load().reason) is not None:
        return reason
    masks = start.context.get("inputs") if isinstance(start.context, dict) else None
    leaves = jax.tree.leaves((start.params, start.carry, start.xs))
    obstacles = {
        "the cell is not the plain LSTM with σ and tanh, or h has dropout": not fused.is_plain(cell, start.context),
        "the inputs have another dropout mask for each gate": masks is not None and masks.shape[0] != 1,
        "the carries of all steps are asked for": way.keep is not None,
        "the dtype is neither float32 nor float64": start.xs.dtype not in (jnp.float32, jnp.float64),
        "a size is symbolic": not all(isinstance(size, int) for size in start.xs.shape),
        "arrays are spread over an explicit mesh": any(_is_explicit(leaf) for leaf in leaves),
    }
    return next((text for text, holds in obstacles.items() if holds), None)


def _is_explicit(leaf: Array) -> bool:
    mesh = jax.typeof(leaf).sharding.mesh
    return not mesh.empty and jax.sharding.AxisType.Explicit in mesh.axis_types


def _inputs(start: Recurrence, batch: int) -> Inputs:
    xs, params = start.xs, start.params
    time, features = xs.shape[0], xs.shape[-1]
    if start.context:
        xs = xs * start.context["inputs"][0]
    units = params["recurrent_kernel"].shape[0]
    bias = params.get("bias", jnp.zeros(4 * units, xs.dtype))
    mask, resets = (jnp.zeros((0, 0), bool) if steps is None else steps.reshape(time, batch) for steps in (start.mask, start.resets))
    h, c = (each.reshape(batch, units) for each in start.carry)
    return _alike(Inputs(xs.reshape(time, batch, features), params["kernel"], params["recurrent_kernel"], bias, h, c, mask, resets))


def _alike(inputs: Inputs) -> Inputs:
    """Inside `shard_map`: all varying over the same axes of the mesh, so that JAX sums gradients where they were not."""
    varying = [jax.typeof(leaf).manual_axis_type.varying for leaf in inputs]
    axes = frozenset().union(*varying)
    missing = (tuple(sorted(axes - own)) for own in varying)
    return Inputs(*(jax.lax.pcast(leaf, which, to="varying") if which else leaf for leaf, which in zip(inputs, missing, strict=True)))
