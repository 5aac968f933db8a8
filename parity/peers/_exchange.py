"""Functions that all peers share.

They flatten carries, turn masks into lengths, and map gradients of converted weights back to our parameters.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np

import jlstm
from jlstm.cells import GRUCell, HiddenCarry
from jlstm.layers import param_shapes
from parity.problem import Arrays, Problem, mask_of


def pulled(dump: Callable[[Arrays], Arrays], params: Arrays, gradients: Arrays) -> Arrays:
    """Map the gradients of the framework's weights back to our parameters.

    `dump` is linear up to a constant, and every weight holds at most one parameter, with a sign. So numbered parameters go
    through `dump`; after the constant is subtracted, each weight shows the number and the sign of the parameter it holds.

    Args:
        dump: converts our parameters to the framework's weights.
        params: our parameters; only their structure and shapes are used.
        gradients: gradients for the weights that `dump` returns, in the same structure.

    Returns:
        Gradients like `params`, float64. A parameter that reaches no weight gets NaN. If two weights hold the same parameter,
        it gets the gradient of the last of them, in the order of `jax.tree.leaves`, and not their sum. No peer has such weights:
        of two biases, one is a constant zero.
    """
    leaves, structure = jax.tree.flatten(params)
    cuts = np.cumsum([np.size(leaf) for leaf in leaves])

    def unflattened(row: np.ndarray) -> Any:
        return [part.reshape(leaf.shape) for part, leaf in zip(np.split(row, cuts[:-1]), leaves, strict=True)]

    # Numbering starts at 1: a 0 then means that a weight holds no parameter, and slot 0 below collects these.
    flat_params = (np.arange(1.0, cuts[-1] + 1), np.zeros(cuts[-1]))
    dumped = (dump(jax.tree.unflatten(structure, unflattened(row))) for row in flat_params)
    numbered_weights, constant_weights, flat_gradients = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (*dumped, gradients)
    )
    sources = np.rint(numbered_weights - constant_weights).astype(int)
    d_params = np.full(cuts[-1] + 1, np.nan)
    # NumPy keeps the last value for an index that occurs twice.
    d_params[np.abs(sources)] = np.sign(sources) * np.asarray(flat_gradients, np.float64)
    return jax.tree.unflatten(structure, unflattened(d_params[1:]))


def states(carry: Any) -> list[Any]:
    """Return the carries of all layers and directions as a flat list: lowest layer first, forward before backward."""
    if hasattr(carry, "h"):
        return [carry]
    # `jax.tree` would sort the keys of the dict and put backward first.
    children = (carry["forward"], carry["backward"]) if isinstance(carry, dict) else carry
    return [state for child in children for state in states(child)]


def carry_of(layer: jlstm.Layer, row: Iterator[Any]) -> Any:
    """Build a layer's carry from an iterator over states in the order of `states`."""
    return layer.map(lambda leaf: carry_like(leaf)(*next(row)))


def first_cell(layer: Any) -> Any:
    """Return the cell of a layer; of a Stack, the cell of the lowest layer."""
    return layer.leaves()[0][1].cell


def carry_like(layer: Any) -> Any:
    """Return the carry class of a layer's cell: `HiddenCarry` for a GRU, else `LSTMCarry`."""
    return HiddenCarry if isinstance(first_cell(layer), GRUCell) else jlstm.LSTMCarry


def layers(layer: jlstm.Layer, *trees: Any) -> list[tuple[Any, ...]]:
    """Pair each layer of a Stack with its part of each tree.

    Args:
        layer: any layer. One that is not a Stack is returned as the only element.
        trees: one entry per layer, such as parameters or carries; or None, which gives None to each layer.

    Returns:
        Tuples `(layer, *parts)`.
    """
    if not isinstance(layer, jlstm.Stack):
        return [(layer, *trees)]
    parts = [[None] * len(layer.layers) if tree is None else tree for tree in trees]
    return list(zip(layer.layers, *parts, strict=True))


def joined(layer: jlstm.Layer, parts: Sequence[Any]) -> Any:
    """Return the tree of a layer from the parts that `layers` pairs with it: the inverse of `layers`."""
    return tuple(parts) if isinstance(layer, jlstm.Stack) else parts[0]


def modules(layer: jlstm.Layer, *trees: Any) -> list[tuple[Any, ...]]:
    """Like `layers`, but keep a Stack of equal layers whole, for frameworks whose modules hold many layers."""
    # Such a module has one hidden size and one set of options for all its layers.
    all_equal = isinstance(layer, jlstm.Stack) and len(set(layer.layers)) == 1
    return [(layer, *trees)] if all_equal else layers(layer, *trees)


def whole(layer: jlstm.Layer, *trees: Any) -> list[tuple[Any, ...]]:
    """Like `layers`, but keep every layer whole, for frameworks that convert a Stack themselves."""
    return [(layer, *trees)]


def lacking(
    framework: str,
    problem: Problem,
    dump: Callable[[jlstm.Layer, Arrays], Any],
    parts: Callable[..., list[tuple[Any, ...]]] = whole,
    *,
    dtypes: Sequence[str] = ("float64", "float32", "bfloat16"),
    lengths: str = "any",
) -> str:
    """Return why a framework cannot run a problem; "" if it can.

    Args:
        framework: its name, for the message.
        problem: the problem to run.
        dump: converts a layer's parameters; it raises ValueError for what the framework lacks. Calls with equal layers must give
            equal answers, since these are kept.
        parts: what cuts a layer into those that `dump` converts: `whole`, `layers` or `modules`.
        dtypes: the dtypes that the framework is compared in.
        lengths: the lengths it accepts: "none", "positive" or "any". No framework accepts other masks.
    """
    if problem.dtype not in dtypes:
        return f"{framework} is not compared in {problem.dtype}, only in {', '.join(dtypes)}"
    if any(isinstance(key, int) for (part,) in layers(problem.layer) for path, _ in part.leaves() for key in path):
        return f"{framework} has no stack of layers inside another layer: put all layers into one Stack"
    if problem.layer.stochastic:
        return f"{framework} takes no dropout masks of ours"
    if problem.weights == "initial":
        return f"{framework} draws initial weights of its own"
    if problem.zero_output:
        return f"{framework} has no zero_output"
    if reason := _mask_obstacle(framework, problem, lengths):
        return reason
    features = problem.features if problem.xs is None else np.shape(problem.xs)[-1]
    return _refusal(dump, parts, problem.layer, features)


@cache  # a table asks thousands of times about a few dozen layers
def _refusal(dump: Callable[[jlstm.Layer, Arrays], Any], parts: Callable[..., Any], layer: jlstm.Layer, features: int) -> str:
    """Return why `dump` refuses a layer; "" if it converts it."""
    # Only shapes and options decide what `dump` refuses, so zeros do.
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), param_shapes(layer, features))
    try:
        for part in parts(layer, params):
            dump(*part)
    except ValueError as error:
        return str(error)
    return ""


def _mask_obstacle(framework: str, problem: Problem, lengths: str) -> str:
    """Return why a framework cannot take the mask of a problem; "" if it can. `lengths` is as in `lacking`."""
    mask = mask_of(problem)
    if mask is None:
        return ""
    if lengths == "none":
        return f"{framework} takes no lengths"
    if (mask[:, 1:] > mask[:, :-1]).any():  # the mask must be lengths: no step counts after one that does not
        return f"{framework} has no mask but padding on the right"
    return f"{framework} takes no sequence of length 0" if lengths == "positive" and shortest(problem) == 0 else ""


def shortest(problem: Problem) -> int:
    """Return the smallest sequence length in any of the problem's batches, or its `time` if there is no mask."""
    mask = mask_of(problem)
    return problem.time if mask is None else min(int(piece.sum(1).min()) for piece in np.split(mask, problem.batches, 1))


def nan_in_padding(problem: Problem) -> bool:
    """Whether the inputs at padded steps contain NaN."""
    mask = None if problem.xs is None else mask_of(problem)
    return mask is not None and bool(np.isnan(np.asarray(problem.xs)[~mask]).any())
