"""Layers that merge several inputs, and what they do with the masks of these."""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jlstm.cell import Params
from jlstm.convert.keras_graph.values import Call, Run, Value
from jlstm.convert.keras_model.options import Version

Config = Mapping[str, Any]


def _merge(function: Callable[[list[Array]], Array], version: Version) -> Run:
    """Return a layer that merges inputs entry by entry. An input of fewer axes gets axes of size 1 behind the batch."""

    def run(_: Params, call: Call) -> Value:
        rank = max(value.array.ndim for value in call.inputs)
        arrays = [value.array.reshape(len(value.array), *(1,) * (rank - value.array.ndim), *value.array.shape[1:])
                  for value in call.inputs]  # fmt: skip
        # XLA broadcasts only axes of size 1, which `jnp.broadcast_arrays` does for strict rank promotion too.
        return Value(function(list(jnp.broadcast_arrays(*arrays))), _mask([value.mask for value in call.inputs], version))

    return run


def _mask(masks: list[Array | None], version: Version) -> Array | None:
    """Return the mask behind a merge.

    Keras 3 drops the mask if an input has none, and else a step counts that counts in any input. In Keras 2, a step counts that
    counts in all inputs with a mask.
    """
    present = [mask for mask in masks if mask is not None]
    if not present or (version.major == 3 and len(present) < len(masks)):
        return None
    return reduce(jnp.logical_or if version.major == 3 else jnp.logical_and, present)


def merge_by(function: Callable[[Array, Array], Array]) -> Callable[[Config, Version], Run]:
    """Return the maker of a layer that merges its inputs two by two, from left to right."""
    return lambda config, version: _merge(lambda arrays: reduce(function, arrays), version)


def average(config: Config, version: Version) -> Run:
    """Return the mean of the inputs."""
    return _merge(lambda arrays: reduce(jnp.add, arrays) / len(arrays), version)


def concatenate(config: Config, version: Version) -> Run:
    """Return the inputs concatenated along an axis, and their masks concatenated along it.

    Along another axis than the time, Keras 3 counts a step that counts in any input, and Keras 2 one that counts in all inputs.
    """
    axis = config["axis"]

    def run(_: Params, call: Call) -> Value:
        arrays, masks = [value.array for value in call.inputs], [value.mask for value in call.inputs]
        joined = jnp.concatenate(arrays, axis)
        if all(mask is None for mask in masks):
            return Value(joined)
        full = [_full(array, mask) for array, mask in zip(arrays, masks, strict=True)]
        mask = jnp.concatenate(full, axis)
        return Value(joined, mask.any(-1) if version.major == 3 else mask.all(-1))

    return run


def _full(array: Array, mask: Array | None) -> Array:
    """Return a mask in the shape of its array. Everything counts without a mask."""
    if mask is None:
        return jnp.ones(array.shape, bool)
    while mask.ndim < array.ndim:
        mask = mask[..., None]
    return jnp.broadcast_to(mask, array.shape)
