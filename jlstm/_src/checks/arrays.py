"""Checks of arrays, trees of arrays, dtypes and random keys."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jlstm._src.values import brief, whole


def key(name: str, value: Any) -> None:
    """Require a single JAX random key, or raise TypeError (no key) or ValueError (several keys)."""
    is_array = isinstance(getattr(value, "shape", None), tuple)
    size = value.shape if is_array else ()
    # A new-style key has a dtype of its own and no axes. An old one is a vector of uint32.
    typed = is_array and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not typed and not (size and value.dtype == np.uint32):
        remedy = "a key of its streams, rngs.params() or rngs.dropout()" if hasattr(value, "fork") else "jax.random.key(0)"
        raise TypeError(f"{name} must be a random key of JAX, got {brief(value)}: pass {remedy}")
    if len(size) != (0 if typed else 1):
        raise ValueError(f"{name} must be one random key, got several, an array of shape {size}: pass key[0], or use jax.vmap")


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Return sizes as a tuple. Raise TypeError if they are no tuple or list, and ValueError if one is not a whole number."""
    if not isinstance(value, tuple | list):
        remedy = f"write ({value},)" if isinstance(value, int) else "write xs.shape[:1], say"
        raise TypeError(f"{name} must be a tuple of sizes such as (2,), got {brief(value)}: {remedy}")
    return tuple(whole(f"{name}[{axis}]", size) for axis, size in enumerate(value))


def array(name: str, value: Any) -> Array:
    """Return a value as a JAX array; require numbers or booleans, or raise TypeError."""
    # A tensor of PyTorch, which refuses to become an array while it is part of a graph.
    if getattr(value, "requires_grad", False) is True:
        raise TypeError(f"{name} must be an array, got a tensor that requires a gradient: pass {name}.detach()")
    if getattr(getattr(value, "dtype", None), "kind", None) == "O":
        raise TypeError(f"{name} must hold numbers, got an array of objects: convert it, with {name}.astype('float32'), say")
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name} must be an array of numbers, got {brief(value)}: convert it with NumPy") from error


def arrays(name: str, tree: Any, *, floating: bool = False) -> None:
    """Require a tree of arrays or numbers, or raise TypeError. A tree without leaves must be a dict, a tuple or a list.

    `floating` requires floating dtypes too.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves and not isinstance(tree, dict | tuple | list):
        raise TypeError(f"{name} must be a tree of arrays, got {brief(tree)}")
    for leaf in leaves:
        try:
            dtype = jnp.result_type(leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf))
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"{name} must be a tree of arrays, got {brief(leaf)} in it") from error
        if floating and not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{name} must be floating to be trained, got {dtype} in it: keep other arrays apart")


def real(name: str, value: Any, *, nan: bool = False) -> np.ndarray:
    """Return real numbers as a NumPy array in float64, or raise TypeError. Raise ValueError for NaN, unless `nan` allows it."""
    try:
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "iufb" and not jnp.issubdtype(numbers.dtype, jnp.floating):
            raise TypeError
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name} must be an array of numbers, got {brief(value)}") from error
    numbers = numbers.astype(float)
    if not nan and np.isnan(numbers).any():
        raise ValueError(f"{name} must be numbers, got NaN among them")
    return numbers


def rows(name: str, value: Any) -> np.ndarray:
    """Return a value as a NumPy array with a row for each example; require numbers, booleans or text, and no NaN.

    Raise TypeError if it has no axis or holds something else, and ValueError if there is a NaN.
    """
    try:
        values = np.asarray(value)
    except (TypeError, ValueError) as error:  # lists of several lengths
        raise TypeError(f"{name} must be an array, got {brief(value)}") from error
    if values.ndim == 0 or (values.dtype.kind in "OV" and not jnp.issubdtype(values.dtype, jnp.floating)):
        raise TypeError(f"{name} must be an array with a row for each example, got {brief(value)}")
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError(f"{name} must be known for each example, got NaN")
    return values


def counts(name: str, value: Any) -> np.ndarray:
    """Return a value as a NumPy array; require whole numbers (or raise TypeError) from 0 to the largest int32 (or ValueError).

    The number of axes is not checked. A single number, without an axis, is returned unchecked: callers refuse it by its axes.
    """
    try:
        numbers = np.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name} must be whole numbers, got {brief(value)}") from error
    # NumPy makes an empty list float64, so the dtype says nothing without numbers.
    if numbers.ndim and numbers.size and numbers.dtype.kind not in "iu":
        raise TypeError(f"{name} must be whole numbers, got {brief(value)}")
    if numbers.ndim and numbers.size and not 0 <= numbers.min() <= numbers.max() < 2**31:
        raise ValueError(f"{name} must be from 0 to {2**31 - 1}, got some from {numbers.min()} to {numbers.max()}")
    return numbers


def float_dtype(name: str, dtype: Any) -> np.dtype:
    """Return a dtype as `np.dtype`; require a real floating one, or raise TypeError."""
    try:
        # `jnp.dtype` takes many other values, None as float64 for example. They become a name that it refuses.
        normal = jnp.dtype(dtype if isinstance(dtype, str | type | np.dtype) else "no dtype")
    except TypeError as error:
        raise TypeError(f"{name} must be a floating dtype such as 'float32' or 'bfloat16', got {brief(dtype)}") from error
    if not jnp.issubdtype(normal, jnp.floating):
        raise TypeError(f"{name} must be a floating dtype such as 'float32' or 'bfloat16', got {normal.name!r}")
    return normal


def available(name: str, dtype: np.dtype) -> None:
    """Raise ValueError for float64 while JAX would silently make it float32."""
    if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError(f"{name} is float64 but JAX computes in float32: call jax.config.update('jax_enable_x64', True) first")


def tree(name: str, got: Any, expected: Any, remedy: str) -> None:
    """Require the structure and shapes of `expected`, a tree of arrays or of their shapes, or raise ValueError.

    Raise TypeError if an array is not floating where that of `expected` is. `remedy` says in the message what to do.
    """
    got_leaves, expected_leaves = (dict(jax.tree_util.tree_flatten_with_path(t)[0]) for t in (got, expected))
    for place in [*expected_leaves, *got_leaves]:
        label = name + jax.tree_util.keystr(place)
        if place not in got_leaves:
            raise ValueError(f"{label} is missing, expected shape {expected_leaves[place].shape}: {remedy}")
        if place not in expected_leaves:
            raise ValueError(f"{label} is not part of what is expected: {remedy}")
        if np.shape(got_leaves[place]) != expected_leaves[place].shape:
            raise ValueError(
                f"{label} must have shape {expected_leaves[place].shape}, got {np.shape(got_leaves[place])}: {remedy}"
            )
        dtypes = [jnp.result_type(leaves[place]) for leaves in (expected_leaves, got_leaves)]
        if jnp.issubdtype(dtypes[0], jnp.floating) and not jnp.issubdtype(dtypes[1], jnp.floating):
            raise TypeError(f"{label} must be floating, got {dtypes[1]}: {remedy}")
    # Equal paths do not mean equal structures: those of a list and a tuple are the same.
    structures: tuple[Any, Any] = (jax.tree.structure(got), jax.tree.structure(expected))
    if structures[0] != structures[1]:
        raise ValueError(f"{name} must have the structure {structures[1]}, got {structures[0]}: {remedy}")


def readable(value: Any) -> bool:
    """Whether this process can read the numbers of an array. It cannot if the array is traced or partly on other processes."""
    return not isinstance(value, jax.core.Tracer) and getattr(value, "is_fully_addressable", True)
