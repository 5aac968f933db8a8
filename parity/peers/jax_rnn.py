"""JAX' `jax.experimental.rnn`. Layout: cuDNN's, one vector: of each layer and direction W_ih, W_hh, then of each b_ih, b_hh.

W_ih (4·units, features), W_hh (4·units, units), b_ih + b_hh (4·units,); gates i f g o; h and c (layers·directions, batch, units).
It is `lstm_ref` that runs, which JAX holds its own `lstm` against: that one is cuDNN's, and needs a GPU.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import rnn

import jlstm
from jlstm.cells import LSTMCell
from jlstm.convert import layout
from parity import jax_peer
from parity.case import Problem, Quantities, Values
from parity.exchange import carry_of, first_cell, lacking, modules, states

NAME = "jax.experimental.rnn"


def version() -> str:
    """JAX' version."""
    return f"{NAME} {jax.__version__}"


def lacks(problem: Problem) -> str:
    """Why it cannot be asked for a problem; "" if it can."""
    if problem.step:
        return f"{NAME} has no single step, only sequences"
    return lacking(NAME, problem, lambda *given: [_dump(*part) for part in modules(*given)])


def known_bug(problem: Problem) -> str:
    """What it makes of padding."""
    return jax_peer.bug_of_padding(f"{NAME}.lstm_ref", problem, "https://github.com/jax-ml/jax/pull/15169")


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities of the problem by `lstm_ref`, of equal layers in one call."""
    return jax_peer.run(problem, values, _dump, _single, modules)


def _dump(layer: Any, params: Any) -> np.ndarray:
    parts = layout.parts(layer, params)
    for sides in parts:
        layout.refuse(NAME, sides[0].layer.cell, kinds=(LSTMCell,))
        if sides[0].layer.reverse:
            raise ValueError(f"{NAME} has no reverse=True: take layer.flipped()")
    layout.concatenated(NAME, layer)
    own = [part.params for _, _, part in layout.each(parts)]
    matrices = [one[name].T for one in own for name in ("kernel", "recurrent_kernel")]
    zeros = np.zeros_like(own[0]["kernel"][0])
    biases = [bias for one in own for bias in (one.get("bias", zeros), zeros)]
    return np.concatenate([np.ravel(array) for array in matrices + biases])


def _single(layer: Any, weights: Any, xs: jax.Array, carry: Any, mask: Any, _: bool) -> tuple[Any, Any]:
    layers = layer.layers if isinstance(layer, jlstm.Stack) else (layer,)
    both = isinstance(layers[0], jlstm.Bidirectional)
    batch, time, features = xs.shape
    units = first_cell(layer).units
    shape = features, units, len(layers), both
    zeros = jnp.zeros((len(layers) * (1 + both), batch, units), xs.dtype)
    before = (zeros, zeros) if carry is None else map(jnp.stack, zip(*states(carry), strict=True))
    lengths = jnp.full(batch, time) if mask is None else jax_peer.lengths(mask)
    unpacked = rnn.unpack_lstm_weights(weights, *shape)
    ys, h, c = rnn.lstm_ref(xs, *before, *unpacked, lengths.astype("int32"), *shape[:3], 0.0, both)
    return ys, carry_of(layer, zip(h, c, strict=True))
