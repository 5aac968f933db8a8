"""Shapes of a layer's parameters, and checks that a call has the right ones, in the right place."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jlstm._src import checks
from jlstm._src.loop import Steps
from jlstm.attention.memory import without_memory
from jlstm.cell import Params, PyTree
from jlstm.layers import carries


@lru_cache(maxsize=1024)
def param_shapes(layer: Any, features: int) -> PyTree:
    """Return the shapes of a layer's parameters, as a tree of `jax.ShapeDtypeStruct`s, without computing anything.

    Args:
        layer: a `jlstm.Layer`.
        features: size of the last axis of the inputs.

    Returns:
        A tree like that of `layer.init`. It can be the argument `like` of `jlstm.load`.

    Examples:
        >>> import jlstm
        >>> jlstm.layers.param_shapes(jlstm.LSTM(4), 3)["kernel"]
        ShapeDtypeStruct(shape=(3, 16), dtype=float32)
    """
    with jax.enable_x64(True):  # the cache must not depend on the caller's setting, on which shapes do not depend either
        return jax.eval_shape(lambda: layer.draw(jax.random.key(0), features))


def features_in(layer: Any, params: Params) -> int:
    """Return the size of the last axis of the inputs that `params` are for.

    Raises:
        ValueError: `params` have another structure than those of the layer.
    """
    try:
        return layer.features_in(params)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"params must be what init of {layer!r} returns, got another tree: pass those") from error


def check_params(layer: Any, params: Params) -> int:
    """Require that parameters are those of a layer, for inputs of any size, and return that size as `features_in` does.

    Raises:
        ValueError: they have another structure, or an array has another shape.
        TypeError: an array is not floating.
    """
    features = features_in(layer, params)
    checks.tree("params", params, param_shapes(layer, features), "pass what init of this layer returned")
    return features


def check_order(params: Any, xs: Any, example: str) -> None:
    """Raise TypeError if the parameters are an array and the inputs a tree. `example` shows the right call."""
    if hasattr(params, "shape") and isinstance(xs, Mapping | tuple):
        raise TypeError(f"params and inputs are in each other's place, got an array and a {type(xs).__name__}: write {example}")


def check_trees(layer: Any, params: Any, carry: PyTree, x_shape: tuple[int, ...], name: str) -> None:
    """Require that parameters and carry are those of a layer, for inputs of a shape (*batch, *spatial sizes, features).

    Args:
        layer: a `jlstm.Layer`.
        params: what the caller passed as parameters.
        carry: what the caller passed as carry, or None.
        x_shape: the shape of the inputs of one step.
        name: the name of the inputs, for the error message.

    Raises:
        ValueError: a tree has another structure or another shape.
        TypeError: an array is not floating.
    """
    batch, features = x_shape[: -1 - len(layer.spatial_in)], x_shape[-1]
    remedy = f"pass what init(key, features={features}) of this layer returns, or {name} with as many features as they have"
    expected = param_shapes(layer, features)
    if isinstance(params, Mapping) and "params" in params and "params" not in expected:  # as Flax's linen has them
        raise ValueError("params must be a layer's parameters, got a dict with 'params': pass what is in it, variables['params']")
    checks.tree("params", without_memory(params), expected, remedy)
    if carry is not None:
        carries.check(carry, jax.eval_shape(lambda: layer.begin(params, batch, "float32")), batch)


def checked_steps(layer: Any, params: Any, xs: Any, carry: PyTree, lengths: Any, mask: Any, resets: Any) -> Steps:
    """Check the arguments of `layer.apply`, and raise what it raises. Return them with time first, and the lengths as a mask."""
    check_order(params, xs, "layer.apply(params, xs)")
    xs = checks.inputs("xs", xs, axes=("time", "features"), spatial=layer.spatial_in)
    step_rank = len(layer.spatial_in) + 1  # axes of one step of one sequence
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask are both given, expected at most one: put the lengths into the mask, or drop one")
    mask, resets = (
        None if value is None else checks.flags(name, value, xs.shape[:-step_rank], "xs")
        for name, value in (("mask", mask), ("resets", resets))
    )
    if not layer.time_major:
        xs, mask, resets = _time_first(xs, -1 - step_rank), _time_first(mask, -1), _time_first(resets, -1)
    check_trees(layer, params, carry, xs.shape[1:], "xs")
    if lengths is not None:
        lengths = checks.lengths(lengths, xs.shape[1:-step_rank], xs.shape[0])
        mask = jnp.expand_dims(jnp.arange(xs.shape[0]), range(1, xs.ndim - step_rank)) < jnp.expand_dims(lengths, 0)
    return Steps(xs, mask, resets)


def _time_first(leaf: Any, axis: int) -> Any:
    return None if leaf is None else jnp.moveaxis(leaf, axis, 0)
