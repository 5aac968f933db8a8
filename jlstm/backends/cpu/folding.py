"""`vmap`: an axis more becomes a part of the batch."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends.cpu.operands import Axes


def fold(
    bind: Callable[..., Sequence[Array]], operands: Sequence[Array], axes: Axes, of_operands: Axes, of_results: Axes
) -> tuple[Sequence[Array], Axes]:
    """Call `bind` once for all that is mapped; one after the other where weights, or what is summed over the batch, are mapped.

    Args:
        bind: what is mapped.
        operands: its operands.
        axes: at which axis each of them is mapped, None where it is not.
        of_operands: at which axis each of them has the batch, None where it has none.
        of_results: the same of the results.

    Returns:
        the results, and at which axis each of them is mapped.
    """
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    if (
        size == 0
        or None in of_results
        or any(at is None and axis is not None for at, axis in zip(of_operands, axes, strict=True))
    ):
        return _one_by_one(bind, operands, axes)
    out = bind(*(_into(x, axis, at, size) for x, axis, at in zip(operands, axes, of_operands, strict=True)))
    return [_out_of(x, at, size) for x, at in zip(out, of_results, strict=True)], of_results


def _one_by_one(bind: Callable[..., Sequence[Array]], operands: Sequence[Array], axes: Axes) -> tuple[Sequence[Array], Axes]:
    mapped = [jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes, strict=True) if axis is not None]

    def one(mapped: Sequence[Array]) -> Sequence[Array]:
        some = iter(mapped)
        return bind(*(x if axis is None else next(some) for x, axis in zip(operands, axes, strict=True)))

    out = jax.lax.map(one, mapped)
    return out, (0,) * len(out)


def _into(x: Array, axis: int | None, at: int | None, size: int) -> Array:
    if at is None or not any(x.shape):  # what is left out
        return x
    if axis is None:
        x = jnp.broadcast_to(jnp.expand_dims(x, at), (*x.shape[:at], size, *x.shape[at:]))
    else:
        x = jnp.moveaxis(x, axis, at)
    return x.reshape(*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :])


def _out_of(x: Array, at: int | None, size: int) -> Array:
    return x if at is None else x.reshape(*x.shape[:at], size, x.shape[at] // size, *x.shape[at + 1 :])
