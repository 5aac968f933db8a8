"""Shapes of a layer's parameters, and checks that a call has the right ones, in the right place."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax

from jlstm._src import checks
from jlstm.attention.memory import without_memory
from jlstm.cell import PyTree
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
