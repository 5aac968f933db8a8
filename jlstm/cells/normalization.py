"""Layer normalization of an LSTM: four published schemes, which normalize and carry different values.

A vector a is normalized over its last axis: scale · (a - mean) / sqrt(variance + ε), plus an offset if there is one.

Reference: Ba, Kiros & Hinton, 2016, "Layer normalization", https://arxiv.org/abs/1607.06450.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jlstm._src.arrays import broadcast_leading
from jlstm.cell import Params


class Scheme(NamedTuple):
    """A scheme of layer normalization: the values that it normalizes, and its ε.

    Attributes:
        normalizes: "products": x W and h U are each normalized over all columns, then added to the bias. "sums": the sum of each
            gate is normalized, with its peephole, and the bias is added after.
        normalized_c: "carried" normalizes c for the output and for the next step, "output" for the output only, "" not at all.
        epsilon: ε as published.
    """

    normalizes: str
    normalized_c: str
    epsilon: float


SCHEMES = {
    "ba2016": Scheme(normalizes="products", normalized_c="output", epsilon=1e-5),  # Ba, Kiros & Hinton 2016, equations 20 to 22
    "tf_contrib": Scheme(normalizes="sums", normalized_c="carried", epsilon=1e-12),  # tf.contrib.rnn.LayerNormBasicLSTMCell
    "addons": Scheme(normalizes="products", normalized_c="carried", epsilon=1e-3),  # tfa.rnn.LayerNormLSTMCell
    "tflite": Scheme(normalizes="sums", normalized_c="", epsilon=1e-8),  # TensorFlow Lite's LSTM kernels
}


def parameters(scheme: Scheme, columns: int, units: int, dtype: Any) -> Params:
    """Return the initial parameters of a scheme: scales of one and offsets of zero.

    These are `kernel_norm` and `recurrent_norm`, or `gate_norm`, and `state_norm` if the scheme normalizes c.
    """

    def pair(size: int) -> Params:
        return {"scale": jnp.ones(size, dtype), "offset": jnp.zeros(size, dtype)}

    products = {"kernel_norm": pair(columns), "recurrent_norm": pair(columns)}
    # No offset: the bias of the cell is added after the normalization and takes its place.
    sums = {"gate_norm": {"scale": jnp.ones(columns, dtype)}}
    return (products if scheme.normalizes == "products" else sums) | ({"state_norm": pair(units)} if scheme.normalized_c else {})


def normalize(x: Float[Array, "... size"], weights: Params, epsilon: float) -> Float[Array, "... size"]:
    """Return `x` normalized over its last axis, in the dtype of `x`.

    It is computed in float32 at least: float16 can represent neither 1e-12 nor 1 / sqrt(1e-12).

    Args:
        x: an array.
        weights: `scale` and, if any, `offset`.
        epsilon: ε, which is added to the variance.
    """
    wide = x.astype(np.promote_types(x.dtype, "float32"))
    centered = wide - jnp.mean(wide, axis=-1, keepdims=True)
    # Divided by the size, not by the size - 1, as in the paper.
    variance = jnp.mean(centered**2, axis=-1, keepdims=True)
    scaled = (centered * lax.rsqrt(variance + epsilon)).astype(x.dtype) * broadcast_leading(weights["scale"], x)
    return scaled + broadcast_leading(weights["offset"], x) if "offset" in weights else scaled
