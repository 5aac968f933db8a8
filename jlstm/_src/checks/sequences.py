"""Checks of what a layer takes for a sequence: inputs, masks, resets, lengths and dropout masks."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jlstm._src.checks.arrays import array, readable
from jlstm._src.values import one_of


def inputs(name: str, xs: Any, *, axes: tuple[str, ...], spatial: tuple[int, ...] = ()) -> Array:
    """Return the inputs as a JAX array; require floats, enough axes, and the spatial sizes of the cell.

    Args:
        name: what the message calls the inputs.
        xs: the inputs (*batch, *axes but the last, *spatial, features).
        axes: the names of the axes that the inputs must have, without the spatial ones; the last one is that of the features.
            The names are only for the message, and their number for the check. Batch axes may come before them.
        spatial: the sizes of the axes just before the features.

    Raises:
        TypeError: the inputs are not an array of floats.
        ValueError: they have too few axes, or other spatial sizes.
    """
    xs = array(name, xs)
    if xs.ndim < len(axes) + len(spatial):
        shown = (*axes[:-1], *map(str, spatial), axes[-1])
        raise ValueError(f"{name} must have at least the axes ({', '.join(shown)}), got shape {xs.shape}")
    if (got := xs.shape[-1 - len(spatial) : -1]) != spatial:
        raise ValueError(
            f"{name} must have the spatial sizes {spatial} before its features, got {got} in shape {xs.shape}: resize {name}, "
            f"or make the cell with spatial={got}"
        )
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        remedy = "embed token indices" if jnp.issubdtype(xs.dtype, jnp.integer) else "pass real numbers"
        raise TypeError(f"{name} must be floating, got {xs.dtype}: {remedy} or cast with {name}.astype('float32')")
    return xs


def flags(name: str, value: Any, shape: tuple[int, ...], inputs: str) -> Array:
    """Return `mask`, `resets` or `reset` as an array; require booleans, or raise TypeError, one for each step of each sequence.

    Raise ValueError for another shape than `shape`, that of the inputs without spatial axes and features. The message calls the
    inputs `inputs`.
    """
    value = array(name, value)
    if value.dtype != jnp.bool_:
        raise TypeError(f"{name} must be boolean, got {value.dtype}: pass {name}.astype(bool)")
    if value.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, that of {inputs} without its features, got {value.shape}")
    return value


def lengths(value: Any, batch_shape: tuple[int, ...], time: int, *, of: str = "xs") -> Array:
    """Return `lengths` as an array of the default integer dtype; require one whole number in [0, time] for each sequence.

    The message calls the sequences `of`. The range of lengths that cannot be read, because they are traced, is not checked. They
    are clipped to be at least 0.

    Raises:
        TypeError: the lengths are not integers.
        ValueError: they have another shape, or one is out of range.
    """
    counts = array("lengths", value)
    if not jnp.issubdtype(counts.dtype, jnp.integer):
        raise TypeError(f"lengths must be whole numbers, got {counts.dtype}: cast them with lengths.astype('int32')")
    if counts.shape != batch_shape:
        raise ValueError(f"lengths must have shape {batch_shape}, one for each sequence, got {counts.shape}")
    # `value` decides whether the lengths can be checked, not `counts`: under `jit` even an array made from constants is traced.
    if isinstance(time, int) and all(readable(leaf) for leaf in jax.tree.leaves(value)):
        concrete = np.asarray(value)
        bad = concrete[(concrete < 0) | (concrete > time)]
        if bad.size:
            raise ValueError(f"lengths must lie between 0 and the {time} time steps of {of}, got {bad[0]}")
    # The clip comes before the cast, so that a large unsigned number does not become negative. The cast comes since lengths are
    # compared with step numbers, and int8, for example, cannot hold step 200.
    return jnp.clip(counts, 0, min(jnp.iinfo(counts.dtype).max, 2**31 - 1)).astype(int)


def dropout_masks(
    value: Mapping[str, Array],
    *,
    gates: int,
    batch_shape: tuple[int, ...],
    sizes: Mapping[str, int | tuple[int, ...]],
    dtype: Any,
) -> dict[str, Array]:
    """Return a cell's dropout masks in the compute dtype; require known names and shapes (gates or 1, *batch, *size).

    Args:
        value: the masks that the caller passed, by name.
        gates: the number of gates. A mask has one entry for each gate, or one for all gates.
        batch_shape: the sizes of the batch axes.
        sizes: the size of the last axis, or the sizes of the last axes, of each mask that the cell has. It is empty for a cell
            without dropout.
        dtype: the compute dtype.

    Raises:
        TypeError: the masks are not a dict.
        ValueError: the cell has no mask of this name, or a mask has another shape.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"dropout_masks must be a dict with some of {', '.join(map(repr, sizes))}, got {type(value).__name__}")
    masks = {}
    for name, mask in value.items():
        if not sizes:
            raise ValueError(f"dropout_masks is for a cell with dropout, and this one has none, got {name!r}: leave it out")
        one_of("a key of dropout_masks", name, sizes)
        size = sizes[name]
        shapes = [(g, *batch_shape, *(size if isinstance(size, tuple) else (size,))) for g in (gates, 1)]
        if jnp.shape(mask) not in shapes:
            raise ValueError(f"dropout_masks[{name!r}] must have shape {shapes[0]} or {shapes[1]}, got {jnp.shape(mask)}")
        masks[name] = jnp.asarray(mask, dtype)
    return masks


def masks(arrays: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], dtype: Any) -> dict[str, Array]:
    """Return a wrapper's masks in the compute dtype, broadcast to `shapes`.

    Args:
        arrays: the masks that the caller passed, by name. Any axis may have size 1.
        shapes: the shapes of the masks that have a rate, by name.
        dtype: the compute dtype.

    Raises:
        ValueError: a mask has no rate, or its shape does not fit.
    """
    for name, mask in arrays.items():
        if name not in shapes:
            raise ValueError(f"dropout_masks has {name!r}, whose rate is 0: leave it out, or give a rate")
        size, expected = jnp.shape(mask), shapes[name]
        if len(size) != len(expected) or any(n not in (1, m) for n, m in zip(size, expected, strict=True)):
            raise ValueError(f"dropout_masks[{name!r}] must have shape {expected}, got {size}")
    return {name: jnp.broadcast_to(jnp.asarray(mask, dtype), shapes[name]) for name, mask in arrays.items()}
