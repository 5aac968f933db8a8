"""Convolutions over the spatial axes of a step, on XLA's own."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jlstm.cells.tuples import LSTMGates, split_gates

Sizes = int | tuple[int, ...]  # one for all spatial axes, or one for each


def axes(sizes: Sizes, rank: int) -> tuple[int, ...]:
    """One size for each of so many axes."""
    return sizes if isinstance(sizes, tuple) else (sizes,) * rank


def sizes_after(spatial: tuple[int, ...], window: Sizes, strides: Sizes, padding: str, dilation: Sizes) -> tuple[int, ...]:
    """What `convolve` makes of spatial sizes: one number for each place where the window fits, or, padded, begins."""
    each = (axes(sizes, len(spatial)) for sizes in (window, strides, dilation))
    lost = 1 if padding == "valid" else 0
    return tuple(-(-(size - lost * d * (k - 1)) // s) for size, k, s, d in zip(spatial, *each, strict=True))


def convolve(
    x: Float[Array, "..."],
    kernel: Float[Array, "*window features columns"],
    strides: Sizes = 1,
    padding: str = "same",
    dilation: Sizes = 1,
) -> Float[Array, "..."]:
    """x * kernel, for x (…, *spatial, features), over as many axes as the kernel's window has."""
    rank = kernel.ndim - 2
    batch, ends = x.shape[: -rank - 1], x.shape[-rank - 1 :]
    space = "DHW"[:rank]
    out = lax.conv_general_dilated(
        x.reshape(math.prod(batch), *ends),
        kernel,
        axes(strides, rank),
        padding,
        rhs_dilation=axes(dilation, rank),
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
    )
    return out.reshape(*batch, *out.shape[1:])


def convolve_steps(
    xs: Float[Array, "time ..."], kernel: Float[Array, "*window features columns"], **how: Any
) -> Float[Array, "time ..."]:
    """The same for all time steps: (time, *batch, *spatial, features)."""
    last = -kernel.ndim  # time behind the batch, which, merged the other way round, could not stay spread over devices
    return jnp.moveaxis(convolve(jnp.moveaxis(xs, 0, last), kernel, **how), last, 0)


def split_gates_merged(columns: Float[Array, "..."], rank: int) -> LSTMGates:
    """`split_gates`, with the spatial axes, so many, merged meanwhile.

    With several of them JAX 0.10 compiles loops in float64 wrong where parts of arrays are read: gradients were far off.
    """
    merged = columns.reshape(*columns.shape[: -rank - 1], -1, columns.shape[-1])
    return jax.tree.map(lambda part: part.reshape(*columns.shape[:-1], part.shape[-1]), split_gates(merged))
