"""Check the carry that a caller passes, and choose the dtype of the carry that a run returns."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jlstm._src import checks
from jlstm.cell import PyTree
from jlstm.cells.tuples import LSTMCarry


def check(carry: PyTree, expected: PyTree, batch_shape: tuple[int, ...]) -> None:
    """Require that `carry` has the structure and the shapes of `expected`.

    Args:
        carry: what the caller passed.
        expected: a tree of arrays or of `jax.ShapeDtypeStruct`s.
        batch_shape: the batch axes of the inputs, for the error message.

    Raises:
        ValueError: the tree structure or a shape differs.
        TypeError: an array is not floating.
    """
    remedy = f"pass initial_carry(params, {batch_shape}) or what apply returned for such a batch"
    structures: tuple[Any, Any] = (jax.tree.structure(carry), jax.tree.structure(expected))
    if structures[0] != structures[1]:
        raise ValueError(_shorten(f"carry must be {_look(expected)}, got {_look(carry)}: {_wrapping(carry, expected) or remedy}"))
    if any(_has_layers_first(*pair) for pair in zip(jax.tree.leaves(carry), jax.tree.leaves(expected), strict=True)):
        remedy += "; PyTorch's have an axis of layers and directions first, so that h[0] and c[0] fit"
    checks.tree("carry", carry, expected, remedy)


def returned(last: PyTree, start: PyTree | None) -> PyTree:
    """Return `last` in the dtype of `start` where that dtype is wider, else unchanged.

    A caller may pass the carry from window to window with `lax.scan`, which requires that the carry keeps its dtype. Widening is
    exact. A cast to a narrower dtype would lose digits at every window border, and so is never made.

    Args:
        last: the carry after the last step, in the compute dtype.
        start: the carry that the caller passed, or None.
    """
    return last if start is None else jax.tree.map(_widened, last, start)


def _widened(last: Any, start: Any) -> Any:
    wide = jnp.result_type(start)
    return last.astype(wide) if wide != last.dtype and _holds(wide, last.dtype) else last


def _holds(wide: Any, narrow: Any) -> bool:
    """Whether `wide` represents every number of `narrow` exactly.

    The size in bits does not decide it: bfloat16 has more powers of two than float16, and fewer digits.
    """
    wide_info, narrow_info = jnp.finfo(wide), jnp.finfo(narrow)
    # float16 has more digits and bfloat16 larger exponents, so neither holds the other.
    return wide_info.nmant >= narrow_info.nmant and wide_info.maxexp >= narrow_info.maxexp


def _has_layers_first(leaf: Any, expected: Any) -> bool:
    # PyTorch's h_n and c_n are (layers · directions, batch, units)
    shape = getattr(leaf, "shape", ())
    return len(shape) == len(expected.shape) + 1 and tuple(shape[1:]) == expected.shape


def _wrapping(carry: PyTree, expected: PyTree) -> str:
    """Return how to wrap bare arrays into the expected NamedTuple, or "" if that is not the caller's mistake."""
    if not hasattr(expected, "_fields"):
        return ""
    kind = type(expected)
    package = "jlstm" if kind is LSTMCarry else ".".join(kind.__module__.split(".")[:2])  # as jlstm.cells or jlstm.attention
    name = f"{package}.{kind.__name__}({', '.join(kind._fields)})"
    if hasattr(carry, "dtype"):
        # Integers in this place are most likely lengths, passed by position.
        return "pass lengths by name" if jnp.issubdtype(carry.dtype, jnp.integer) else f"wrap it, {name}"
    is_bare = isinstance(carry, list | tuple) and not hasattr(carry, "_fields") and len(carry) == len(kind._fields)
    return f"wrap them, {name}" if is_bare and all(hasattr(leaf, "dtype") for leaf in carry) else ""


def _look(tree: PyTree) -> str:
    """Return a tree as Python code would write it, with names or shapes in place of the arrays."""
    if hasattr(tree, "_fields"):
        fields = (
            name if hasattr(value, "dtype") else f"{name}={_look(value)}" for name, value in zip(tree._fields, tree, strict=True)
        )
        return f"{type(tree).__name__}({', '.join(fields)})"
    if isinstance(tree, Mapping):
        return "{" + ", ".join(f"{name!r}: {_look(value)}" for name, value in tree.items()) + "}"
    if isinstance(tree, tuple | list):
        left, right = "()" if isinstance(tree, tuple) else "[]"
        return left + ", ".join(map(_look, tree)) + right
    if hasattr(tree, "shape"):
        return f"an array of shape {tuple(tree.shape)}" if tree.shape else "a number"
    return "None" if tree is None else type(tree).__name__


def _shorten(sentence: str) -> str:
    # The beginning says what was expected and the end what to do, so the middle goes.
    return sentence if len(sentence) <= 300 else sentence[:140] + " … " + sentence[-150:]
