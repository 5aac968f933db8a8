"""The quantities that every side computes from the numbers of a problem: outputs, carries and gradients, by name."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from parity import textbook
from parity.problem import Arrays, Problem
from parity.values import Values

Quantities = Mapping[str, np.ndarray]


def truth(problem: Problem, values: Values) -> Quantities:
    """Return what the float64 textbook computes for the problem."""

    def run(piece: Values) -> Any:
        options = {"last": problem.outputs == "last", "zero_output": problem.zero_output}
        carry, ys, pullback = textbook.run(
            problem.layer, piece.params, piece.xs, piece.carry, piece.mask, None, piece.dropout_masks, **options
        )
        return ys, carry, *pullback(piece.d_carry, piece.d_ys)

    initial = textbook.initial_bias(problem.layer) if problem.weights == "initial" else None
    return in_pieces(problem, values, run, initial)


def in_pieces(problem: Problem, values: Values, run: Callable[[Values], Any], initial_bias: Arrays) -> Quantities:
    """Run the problem's batches in turn, each from the last carry of the previous one. No gradient flows between them.

    Args:
        problem: what to run.
        values: its numbers.
        run: takes the values of a piece. It returns the outputs, the last carry, and the gradients for parameters, inputs and
            initial carry.
        initial_bias: the initial biases, which are one more quantity; None for none.

    Returns:
        The quantities by name. Outputs and input gradients are joined along time, and parameter gradients are summed.
    """
    carry, results = values.carry, []
    for piece in pieces(problem, values):
        result = run(piece._replace(carry=carry))
        carry = result[1]  # an array, not a part of a graph: so no gradient flows back into the piece before
        results.append(jax.tree.map(np.asarray, result))
    all_ys, carries, d_params, d_xs, d_carries = zip(*results, strict=True)
    joined = [jax.tree.map(lambda *leaves: np.concatenate(leaves, 1), *trees) for trees in (all_ys, d_xs)]
    summed = jax.tree.map(lambda *leaves: sum(np.asarray(leaf, np.float64) for leaf in leaves), *d_params)
    return named(joined[0], carries[-1], summed, joined[1], None if values.carry is None else d_carries[0], initial_bias)


def pieces(problem: Problem, values: Values) -> list[Values]:
    """Split the values into the problem's batches. Only the last one has the carry's cotangent; the others have zeros."""
    parts = problem.batches

    def split(tree: Arrays) -> list[Arrays]:
        leaves, structure = jax.tree.flatten(tree)
        return [jax.tree.unflatten(structure, [np.split(leaf, parts, 1)[k] for leaf in leaves]) for k in range(parts)]

    # Only the last carry of the last piece is a result. The other ones are just handed on.
    d_carries = [jax.tree.map(np.zeros_like, values.d_carry)] * (parts - 1) + [values.d_carry]
    splits = zip(split(values.xs), split(values.mask), split(values.d_ys), d_carries, strict=True)
    return [values._replace(xs=xs, mask=mask, d_ys=d_ys, d_carry=d_carry) for xs, mask, d_ys, d_carry in splits]


def named(
    ys: Arrays, carry: Arrays, d_params: Arrays, d_xs: Any, d_carry: Arrays, initial_bias: Arrays = None, dtype: Any = np.float64
) -> Quantities:
    """Return all quantities by name: `ys`, `carry.h`, `d_params.kernel`, ….

    Each argument is an array or a tree of arrays; None leaves its quantities out. `dtype` is the dtype of the returned arrays.
    """
    tree = {"ys": ys, "carry": carry, "d_params": d_params, "d_xs": d_xs, "d_carry": d_carry, "initial_bias": initial_bias}
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf, dtype) for path, leaf in leaves}


def biases(params: Arrays) -> list[Any]:
    """Return all biases among the parameters, in the order of the layers."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [leaf for path, leaf in leaves if jax.tree_util.keystr(path[-1:], simple=True) == "bias"]
