"""A recurrent layer as its own framework runs it, and its results in our order."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

import jlstm
from parity.ours import last_output
from parity.quantities import Quantities, named


class Results(NamedTuple):
    """What a framework's layer returns, as NumPy arrays.

    Args:
        ys: one array of the outputs of all steps (batch, time, features), in the order of the inputs; two arrays if two
            directions are not merged.
        states: the last states (batch, size): by layer, then by direction, h before c.
    """

    ys: list[np.ndarray]
    states: list[np.ndarray]


class Recorded(NamedTuple):
    """What a layer received and returned while the whole model ran.

    Args:
        xs: its inputs (batch, time, features).
        mask: which steps counted (batch, time); None if all did.
        carry: its initial states, in the order of `Results.states`; None for zeros.
        ys: its outputs as in `Results`; None if it returned only the last step's.
        last: the last step's outputs (batch, features), two arrays if two directions are not merged; None if `ys` is set.
        states: its last states as in `Results`; None if it did not return them.
    """

    xs: np.ndarray
    mask: np.ndarray | None = None
    carry: list[np.ndarray] | None = None
    ys: list[np.ndarray] | None = None
    last: list[np.ndarray] | None = None
    states: list[np.ndarray] | None = None


Run = Callable[[np.ndarray, np.ndarray | None, str, str], Results]


class Original(NamedTuple):
    """A layer of a model file, run by its framework.

    Args:
        peer: the framework's name.
        dtype: the dtype in which the layer computes.
        exact: the framework's highest precision; its results there are the truth.
        run: `(xs, lengths, dtype, weights_dtype) -> Results`, with inputs (batch, time, features) and lengths (batch,) or None.
            Weights are first rounded to the second dtype.
        arrays: the names of the file's arrays that the framework's layer uses.
        recorded: what the layer did while the whole model ran; None if that was not run.
    """

    peer: str
    dtype: str
    exact: str
    run: Run
    arrays: frozenset[str] = frozenset()
    recorded: Recorded | None = None


def quantities(layer: jlstm.Layer, params: Any, results: Results, mask: np.ndarray | None = None) -> Quantities:
    """Return the results under the names of our side.

    Args:
        layer: the converted layer.
        params: its parameters.
        results: the original's results.
        mask: which steps count; the outputs at all others are set to zero, as ours are.

    Returns:
        Outputs and the last carry.

    Raises:
        ValueError: the number of states is not the layer's.
    """
    return named(_by_direction(_masked(results.ys, mask)), carry_of(layer, params, results.states), None, None, None)


def recorded_quantities(layer: jlstm.Layer, params: Any, recorded: Recorded) -> Quantities:
    """Return what the layer returned in the whole model, under the names of our side."""
    carry = None if recorded.states is None else carry_of(layer, params, recorded.states)
    ys = recorded.last if recorded.ys is None else _masked(recorded.ys, recorded.mask)
    return named(_by_direction(ys), carry, None, None, None)


def returned(layer: jlstm.Layer, recorded: Recorded, carry: Any, ys: Any) -> tuple[Any, Any]:
    """Reduce our outputs and last carry to those that the layer returned in the whole model."""
    if recorded.ys is None:
        ys = jax.tree.map(lambda y: np.asarray(y)[:, 0], last_output(layer, carry, recorded.mask, zero_output=False))
    return ys, None if recorded.states is None else carry


def carry_of(layer: jlstm.Layer, params: Any, arrays: list[np.ndarray]) -> Any:
    """Build a layer's carry from a framework's states.

    Args:
        layer: the converted layer.
        params: its parameters.
        arrays: the states (batch, size), in the order of `Results.states`.

    Raises:
        ValueError: the number of states is not the layer's.
    """
    states = iter(arrays)
    try:
        carry = layer.map(lambda leaf, leaf_params: _carry(leaf, leaf_params, states), params)
    except StopIteration:
        raise ValueError(f"the original has {len(arrays)} states, fewer than {layer!r}: compare it by hand") from None
    if list(states):  # the iterator must be used up
        raise ValueError(f"the original has {len(arrays)} states, more than {layer!r}: compare it by hand")
    return carry


def _carry(layer: jlstm.Layer, params: Any, states: Iterator[np.ndarray]) -> Any:
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: layer.initial_carry(params, (1,), "float32")))
    return jax.tree.unflatten(structure, [next(states) for _ in leaves])


def _by_direction(ys: Any) -> Any:
    """Return the outputs, by direction if these are not merged."""
    return dict(zip(("forward", "backward"), ys, strict=True)) if len(ys) > 1 else ys[0]


def _masked(ys: list[np.ndarray], mask: np.ndarray | None) -> list[np.ndarray]:
    return ys if mask is None else [np.where(mask.reshape(*mask.shape, *[1] * (y.ndim - 2)), y, 0) for y in ys]
