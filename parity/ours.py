"""Our side of a comparison: `jlstm` under `jit`, with NumPy arrays in and out."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jlstm
from jlstm.layers import Composite
from parity.problem import Problem
from parity.quantities import Quantities, biases, in_pieces, named
from parity.values import Values


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities of the problem in its dtype."""

    def run_piece(piece: Values) -> Any:
        if piece.carry is None and problem.batches > 1:  # so that all pieces run the same compiled program
            piece = piece._replace(carry=problem.layer.initial_carry(piece.params, piece.xs.shape[:1]))
        arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf, problem.dtype), piece._replace(mask=None))
        return _with_gradients(problem, arrays._replace(mask=piece.mask))

    with jax.enable_x64(True), jax.default_matmul_precision("highest"):  # no TF32 on GPUs
        # Kernels are drawn at random, differently in every framework. Only initial biases can be compared.
        initial = problem.layer.init(jax.random.key(problem.seed), values.xs.shape[-1]) if problem.weights == "initial" else None
        return in_pieces(problem, values, run_piece, initial and biases(initial))


def outputs(problem: Problem, values: Values) -> Quantities:
    """Return the outputs and the last carry by name, in the problem's dtype, without dropout."""
    carry, ys = results(problem, values)
    return named(ys, carry, None, None, None)


def results(problem: Problem, values: Values) -> tuple[Any, Any]:
    """Return the last carry and the outputs (batch, time, features), in the problem's dtype, without dropout."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        params, xs, carry = jax.tree.map(lambda leaf: jnp.asarray(leaf, problem.dtype), (values.params, values.xs, values.carry))
        layer, mask = problem.layer, values.mask
        carry, ys = _apply(layer, params, swap_if_time_major(layer, xs), carry, swap_if_time_major(layer, mask))
        return jax.tree.map(np.asarray, (carry, swap_if_time_major(layer, ys)))


@partial(jax.jit, static_argnums=0)
def _apply(layer: jlstm.Layer, params: Any, xs: Any, carry: Any, mask: Any) -> Any:
    return layer.apply(params, xs, carry, mask=mask)


@partial(jax.jit, static_argnums=0)
def _with_gradients(problem: Problem, values: Values) -> Any:
    results, pullback = jax.vjp(partial(forward, problem, values), values.params, values.xs, values.carry)
    return *results, *pullback((values.d_ys, values.d_carry))


def forward(problem: Problem, values: Values, params: Any, xs: Any, carry: Any) -> tuple[Any, Any]:
    """Return the outputs and the last carry."""
    layer, mask = problem.layer, values.mask
    if problem.step:
        carry, y = layer.step(params, carry, xs[:, 0])
        return y[:, None], carry
    carry, ys = layer.apply(
        params, swap_if_time_major(layer, xs), carry, mask=swap_if_time_major(layer, mask), dropout_masks=values.dropout_masks
    )
    if problem.outputs == "last":
        return last_output(layer, carry, mask, problem.zero_output), carry
    return swap_if_time_major(layer, ys), carry


def with_backend(layer: jlstm.Layer, backend: str) -> jlstm.Layer:
    """Return the layer with every RNN in it run by another backend."""
    return layer.map_layers(lambda rnn: replace(rnn, backend=backend))


def swap_if_time_major(layer: jlstm.Layer, tree: Any) -> Any:
    """Swap batch and time if the layer is time-major. It is its own inverse."""
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), tree) if layer.time_major else tree


def last_output(layer: Any, carry: Any, mask: Any, zero_output: bool) -> Any:
    """Return the output of the last step that counts, (batch, 1, features): the h of the last carry.

    Args:
        layer: any layer; a Stack and a Bidirectional merge the outputs of their children.
        carry: the last carry.
        mask: which steps count, (batch, time); None if all do.
        zero_output: whether the output is zero if the last step is padding. If not, it is zero only if no step counts.
    """
    if isinstance(layer, Composite):
        return layer.merge_outputs({k: last_output(layer.children[k], carry[k], mask, zero_output) for k in layer.output_keys})
    # Masked steps pass the carry on, so the last carry holds the output of the last step that counts.
    if mask is None:
        return carry.h[:, None]
    has_output = mask[:, 0 if layer.reverse else -1] if zero_output else mask.any(1)
    return jnp.where(has_output.reshape(-1, *[1] * (carry.h.ndim - 1)), carry.h, 0)[:, None]
