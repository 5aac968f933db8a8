"""What peers on JAX share: they run layer after layer, and one `vjp` gives the outputs and all gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jlstm
from parity.ours import last_output
from parity.peers._exchange import carry_like, layers, nan_in_padding, pulled, shortest
from parity.problem import Arrays, Problem
from parity.quantities import Quantities, in_pieces
from parity.values import Values

Dump = Callable[[jlstm.Layer, Arrays], Any]
RunPart = Callable[..., tuple[Any, Any]]
Split = Callable[..., list[tuple[Any, ...]]]


def run(problem: Problem, values: Values, dump: Dump, run_part: RunPart, split: Split = layers) -> Quantities:
    """Compute all quantities of the problem in its dtype, under `jit`.

    Args:
        problem: what to compute.
        values: its numbers.
        dump: converts the parameters of one part to the framework's weights.
        run_part: runs one part: `(layer, weights, xs, carry, mask, step) -> ys, carry`.
        split: splits a layer, and trees such as its parameters, into parts: `layers` (one per layer of a Stack) or `modules`.

    Returns:
        The quantities by name, as float64 arrays.
    """

    def all_weights(params: Arrays) -> list[Any]:
        return [dump(*part) for part in split(problem.layer, params)]

    def forward(weights: Any, xs: Any, carry: Any, mask: Any) -> tuple[Any, Any]:
        carries = []
        for (layer, state), part_weights in zip(split(problem.layer, carry), weights, strict=True):
            xs, last_carry = run_part(layer, part_weights, xs, state, mask, problem.step)
            carries.append(last_carry)
        # `split` may keep the whole layer as its only part; its carry is then the layer's carry and no tuple of parts.
        last_carry = carries[0] if layer is problem.layer else tuple(carries)
        if problem.outputs == "last":
            return last_output(problem.layer, last_carry, mask, False), last_carry
        if mask is not None:  # what a framework computes from padding is no output
            xs = jax.tree.map(lambda ys: jnp.where(mask.reshape(*mask.shape, *[1] * (ys.ndim - 2)), ys, jnp.zeros_like(ys)), xs)
        return xs, last_carry

    @jax.jit
    def with_gradients(weights: Any, piece: Values) -> Any:
        results, pullback = jax.vjp(partial(forward, mask=piece.mask), weights, piece.xs, piece.carry)
        return *results, *pullback((piece.d_ys, piece.d_carry))

    def run_piece(piece: Values) -> Any:
        def cast(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: jnp.asarray(leaf, problem.dtype), tree)

        typed_piece = cast(piece._replace(params=None, mask=None))._replace(mask=piece.mask)
        ys, carry, d_weights, d_xs, d_carry = with_gradients(cast(all_weights(piece.params)), typed_piece)
        # `vjp` differentiates for the framework's weights. `pulled` maps these gradients to our parameters.
        return ys, carry, pulled(all_weights, piece.params, jax.tree.map(np.asarray, d_weights)), d_xs, d_carry

    # Without "highest", matmuls of float32 may run in lower precision on accelerators, such as TF32 on GPUs.
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        return in_pieces(problem, values, run_piece, None)


def initial_carry(layer: Any, xs: Any, carry: Any) -> Any:
    """Return `carry`, or zeros if it is None."""
    cell = layer.cell
    zeros = jnp.zeros((xs.shape[0], *cell.spatial_out, cell.features_out), xs.dtype)
    kind = carry_like(layer)
    return carry or kind(*[zeros] * len(kind._fields))


def lengths(mask: Any) -> Any:
    """Return the number of steps that count, (batch,). The mask must be padding on the right."""
    return None if mask is None else mask.sum(1)


def bug_of_padding(name: str, problem: Problem, link: str) -> str:
    """Return what a framework gets wrong if it runs over padding and then picks the states at `seq_lengths - 1`; "" if nothing.

    Args:
        name: the framework's name.
        problem: the problem to run.
        link: a link to the framework's code.
    """
    if shortest(problem) == 0:
        return f"{name} runs over the padding of a sequence of length 0 ({link})"
    nan = f"{name} lets NaN in padding into gradients (https://github.com/jax-ml/jax/issues/20601)"
    return nan if nan_in_padding(problem) else ""
