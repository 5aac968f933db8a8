"""What peers share: states in a row, lengths for masks, and gradients of converted weights put back where our parameters are."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

import jlstm
from jlstm.cells import GRUCell, HiddenCarry
from jlstm.layers import param_shapes
from parity.case import Arrays, Problem, mask_of


def pulled(dump: Callable[[Arrays], Arrays], params: Arrays, gradients: Arrays) -> Arrays:
    """Return the gradients for our parameters from those for the weights that `dump` makes of them.

    Numbered parameters are sent through `dump`, and what arrives tells where each came from and with which sign; what `dump` adds
    to them is taken away. Where nothing arrives, the gradient is NaN. Where two biases hold one of ours, the first is taken.
    """
    leaves, structure = jax.tree.flatten(params)
    cuts = np.cumsum([np.size(leaf) for leaf in leaves])

    def shaped(row: np.ndarray) -> Any:
        return [part.reshape(leaf.shape) for part, leaf in zip(np.split(row, cuts[:-1]), leaves, strict=True)]

    rows = (np.arange(1.0, cuts[-1] + 1), np.zeros(cuts[-1]))
    trees = (dump(jax.tree.unflatten(structure, shaped(row))) for row in rows)
    sent, nothing, arrived = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (*trees, gradients))
    origin = np.rint(sent - nothing).astype(int)
    back = np.full(cuts[-1] + 1, np.nan)
    back[np.abs(origin)] = np.sign(origin) * np.asarray(arrived, np.float64)
    return jax.tree.unflatten(structure, shaped(back[1:]))


def states(carry: Any) -> list[Any]:
    """The carries of all directions of all layers, the lowest first, forward before backward."""
    if hasattr(carry, "h"):
        return [carry]
    each = (carry["forward"], carry["backward"]) if isinstance(carry, dict) else carry
    return [state for one in each for state in states(one)]


def carry_of(layer: jlstm.Layer, row: Iterator[Any]) -> Any:
    """The carry of a layer from `states` in that order."""
    if isinstance(layer, jlstm.Stack):
        return tuple(carry_of(one, row) for one in layer.layers)
    if isinstance(layer, jlstm.Bidirectional):
        return {name: carry_of(layer.layer, row) for name in ("forward", "backward")}
    return carry_like(layer)(*next(row))


def first_cell(layer: Any) -> Any:
    """The cell of a layer, of the lowest if there are several."""
    if isinstance(layer, jlstm.Stack):
        return first_cell(layer.layers[0])
    return first_cell(layer.layer) if isinstance(layer, jlstm.Bidirectional) else layer.cell


def carry_like(layer: Any) -> Any:
    """What a cell's carry is: h of a GRU, h and c of the others."""
    return HiddenCarry if isinstance(first_cell(layer), GRUCell) else jlstm.LSTMCarry


def layers(layer: jlstm.Layer, *trees: Any) -> list[tuple[Any, ...]]:
    """Each layer of a Stack with its own of the trees, or of None; a single one as it is."""
    if not isinstance(layer, jlstm.Stack):
        return [(layer, *trees)]
    given = [[None] * len(layer.layers) if tree is None else tree for tree in trees]
    return list(zip(layer.layers, *given, strict=True))


def modules(layer: jlstm.Layer, *trees: Any) -> list[tuple[Any, ...]]:
    """As `layers`, for frameworks with modules of many layers: a Stack of equal layers is one."""
    same = isinstance(layer, jlstm.Stack) and len(set(layer.layers)) == 1
    return [(layer, *trees)] if same else layers(layer, *trees)


def lacking(
    framework: str,
    problem: Problem,
    dump: Callable[[jlstm.Layer, Arrays], Any],
    *,
    dtypes: Sequence[str] = ("float64", "float32", "bfloat16"),
    lengths: str = "any",
) -> str:
    """Why a framework cannot be asked for a problem; "" if it can.

    Args:
        framework: its name, for the sentence.
        problem: the problem.
        dump: makes the framework's weights of a layer and parameters, and refuses with a ValueError what it does not have.
        dtypes: in which it computes.
        lengths: which it takes: "none", "positive" or "any"; no framework takes other masks.
    """
    if problem.dtype not in dtypes:
        return f"{framework} is not compared in {problem.dtype}, only in {', '.join(dtypes)}"
    if problem.layer.stochastic:
        return f"{framework} takes no dropout masks of ours"
    if problem.weights == "initial":
        return f"{framework} draws initial weights of its own"
    if problem.zero_output:
        return f"{framework} has no zero_output"
    mask = mask_of(problem)
    if mask is not None:
        if lengths == "none":
            return f"{framework} takes no lengths"
        if (mask[:, 1:] > mask[:, :-1]).any():
            return f"{framework} has no mask but padding on the right"
        if lengths == "positive" and shortest(problem) == 0:
            return f"{framework} takes no sequence of length 0"
    features = problem.features if problem.xs is None else np.shape(problem.xs)[-1]
    try:
        dump(problem.layer, jax.tree.map(lambda leaf: np.zeros(leaf.shape), param_shapes(problem.layer, features)))
    except ValueError as error:
        return str(error)
    return ""


def shortest(problem: Problem) -> int:
    """The smallest length in any of the problem's batches; the time where all steps count."""
    mask = mask_of(problem)
    return problem.time if mask is None else min(int(piece.sum(1).min()) for piece in np.split(mask, problem.batches, 1))


def nan_in_padding(problem: Problem) -> bool:
    """Whether inputs of steps that do not count are no numbers."""
    mask = None if problem.xs is None else mask_of(problem)
    return mask is not None and bool(np.isnan(np.asarray(problem.xs)[~mask]).any())
