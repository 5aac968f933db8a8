"""Convolutions over the spatial axes of a step, built on `lax.conv_general_dilated`."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jlstm.cells.tuples import LSTMGates, split_gates

Sizes = int | tuple[int, ...]  # one number for all spatial axes, or one for each of them


def axes(sizes: Sizes, rank: int) -> tuple[int, ...]:
    """Return `rank` sizes: `sizes` if it is a tuple, else the number repeated."""
    return sizes if isinstance(sizes, tuple) else (sizes,) * rank


def sizes_after(spatial: tuple[int, ...], window: Sizes, strides: Sizes, padding: str, dilation: Sizes) -> tuple[int, ...]:
    """Return the spatial sizes of the result of `convolve`, for inputs with the sizes `spatial`."""
    per_axis = (axes(sizes, len(spatial)) for sizes in (window, strides, dilation))
    # A window of k weights with dilation d spans d (k - 1) + 1 places. Without padding it fits at size - d (k - 1) places. The
    # convolution takes the first of them and then every s-th one.
    unpadded = 1 if padding == "valid" else 0
    return tuple(-(-(size - unpadded * d * (k - 1)) // s) for size, k, s, d in zip(spatial, *per_axis, strict=True))


def convolve(
    x: Float[Array, "..."],
    kernel: Float[Array, "*window features columns"],
    strides: Sizes = 1,
    padding: str = "same",
    dilation: Sizes = 1,
) -> Float[Array, "..."]:
    """Return the convolution of `x` with `kernel` over the spatial axes.

    Args:
        x: an array (*batch, *spatial, features).
        kernel: weights. The number of its window axes is the number of spatial axes.
        strides: steps between the places where the window is applied.
        padding: "same" or "valid".
        dilation: steps between the weights.

    Returns:
        An array (*batch, *spatial sizes by `sizes_after`, columns).
    """
    rank = kernel.ndim - 2
    batch, spatial_and_features = x.shape[: -rank - 1], x.shape[-rank - 1 :]
    # The letters only tell the axes apart: with one spatial axis it is D.
    space = "DHW"[:rank]
    out = lax.conv_general_dilated(
        x.reshape(math.prod(batch), *spatial_and_features),  # lax takes exactly one batch axis
        kernel,
        axes(strides, rank),
        padding,
        rhs_dilation=axes(dilation, rank),
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
    )
    return out.reshape(*batch, *out.shape[1:])


def convolve_steps(
    xs: Float[Array, "time ..."], kernel: Float[Array, "*window features columns"], **options: Any
) -> Float[Array, "time ..."]:
    """Return the convolution of all time steps of `xs` (time, *batch, *spatial, features). `options` are those of `convolve`."""
    # `convolve` merges batch and time. Time goes behind the batch: in the other order a sharded batch could not stay sharded.
    time_axis = -kernel.ndim
    return jnp.moveaxis(convolve(jnp.moveaxis(xs, 0, time_axis), kernel, **options), time_axis, 0)


def split_gates_merged(columns: Float[Array, "..."], rank: int) -> LSTMGates:
    """Return `split_gates(columns)`, with the `rank` spatial axes merged into one while the columns are split."""
    # A workaround: with several spatial axes JAX 0.10 compiles float64 loops that read parts of arrays wrongly. Gradients were
    # far off.
    merged = columns.reshape(*columns.shape[: -rank - 1], -1, columns.shape[-1])
    return jax.tree.map(lambda part: part.reshape(*columns.shape[:-1], part.shape[-1]), split_gates(merged))
