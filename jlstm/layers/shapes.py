"""Shapes of a layer's parameters, and a check that parameters and inputs are not in each other's place."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax

from jlstm.cell import PyTree


@lru_cache(maxsize=1024)
def param_shapes(layer: Any, features: int) -> PyTree:
    """Return the shapes of a layer's parameters, as a tree of `jax.ShapeDtypeStruct`s, without computing anything.

    Args:
        layer: a `jlstm.Layer`.
        features: size of the last axis of the inputs.
    """
    with jax.enable_x64(True):  # the cache must not depend on the caller's setting, on which shapes do not depend either
        return jax.eval_shape(lambda: layer.draw(jax.random.key(0), features))


def check_order(params: Any, xs: Any, example: str) -> None:
    """Raise TypeError if the parameters are an array and the inputs a tree. `example` shows the right call."""
    if hasattr(params, "shape") and isinstance(xs, Mapping | tuple):
        raise TypeError(f"params and inputs are in each other's place, got an array and a {type(xs).__name__}: write {example}")
