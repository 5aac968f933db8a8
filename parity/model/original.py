"""A recurrent layer as its own framework runs it, and its results in the order of ours."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

import jlstm
from parity.case import Quantities, named


class Results(NamedTuple):
    """What a framework's layer returns, as NumPy arrays.

    Args:
        ys: outputs of all steps (batch, time, features), in the order of the inputs; of two directions that are not merged, two.
        states: the last states (batch, size): by layer, then by direction, h before c.
    """

    ys: list[np.ndarray]
    states: list[np.ndarray]


class Original(NamedTuple):
    """A layer of a model's file.

    Args:
        peer: the framework's name.
        dtype: in which the layer computes.
        exact: the highest precision that the framework has; what it computes there is the truth.
        run: takes inputs (batch, time, features) and two dtypes, in which to compute and to which weights are rounded before.
    """

    peer: str
    dtype: str
    exact: str
    run: Callable[[np.ndarray, str, str], Results]


def quantities(layer: jlstm.Layer, params: Any, results: Results) -> Quantities:
    """The results by the names that our side gives them.

    Args:
        layer: what the original was converted to.
        params: its parameters.
        results: the original's.

    Returns:
        Outputs and the last carry.

    Raises:
        ValueError: there are more states, or fewer, than the layer has.
    """
    states = iter(results.states)
    try:
        carry = _carry(layer, params, states)
    except StopIteration:
        raise ValueError(f"the original has {len(results.states)} states, fewer than {layer!r}: compare it by hand") from None
    if list(states):
        raise ValueError(f"the original has {len(results.states)} states, more than {layer!r}: compare it by hand")
    ys: Any = dict(zip(("forward", "backward"), results.ys, strict=True)) if len(results.ys) > 1 else results.ys[0]
    return named(ys, carry, None, None, None)


def _carry(layer: Any, params: Any, states: Iterator[np.ndarray]) -> Any:
    if isinstance(layer, jlstm.Stack):
        return tuple([_carry(one, p, states) for one, p in zip(layer.layers, params, strict=True)])
    if isinstance(layer, jlstm.Bidirectional):
        return {name: _carry(layer.layer, params[name], states) for name in ("forward", "backward")}
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: layer.initial_carry(params, (1,), "float32")))
    return jax.tree.unflatten(structure, [next(states) for _ in leaves])
