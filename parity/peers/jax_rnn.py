"""JAX's `jax.experimental.rnn`.

Layout: one vector in cuDNN's order: W_ih and W_hh of each layer and direction, then b_ih and b_hh of each. W_ih is (4·units,
features), W_hh (4·units, units), b_ih + b_hh (4·units,); gates i f g o; h and c are (layers·directions, batch, units).

This peer runs `lstm_ref`, the reference that JAX tests its `lstm` against. `lstm` itself calls cuDNN and needs a GPU.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import rnn

from jlstm.cells import LSTMCell
from jlstm.convert import layout
from parity.peers import _jax as jax_peer
from parity.peers._exchange import carry_of, first_cell, lacking, layers, modules, states
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values

NAME = "jax.experimental.rnn"


def version() -> str:
    """Return JAX's version."""
    return f"{NAME} {jax.__version__}"


def lacks(problem: Problem) -> str:
    """Return why JAX's `lstm_ref` cannot run a problem; "" if it can."""
    if problem.step:
        return f"{NAME} has no single step, only sequences"
    return lacking(NAME, problem, _dump, modules)


def known_bug(problem: Problem) -> str:
    """Return what `lstm_ref` gets wrong in padding; "" if nothing."""
    return jax_peer.bug_of_padding(f"{NAME}.lstm_ref", problem, "https://github.com/jax-ml/jax/pull/15169")


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities with `lstm_ref`. A stack of equal layers is one call."""
    return jax_peer.run(problem, values, _dump, _run_part, modules)


def _dump(layer: Any, params: Any) -> np.ndarray:
    parts = layout.parts(layer, params)
    for sides in parts:
        layout.refuse(NAME, sides[0].layer.cell, kinds=(LSTMCell,))
        if sides[0].layer.reverse:
            raise ValueError(f"{NAME} has no reverse=True: take layer.flipped()")
    layout.concatenated(NAME, layer)
    params_of_sides = [part.params for _, _, part in layout.numbered(parts)]
    # cuDNN's vector has all matrices first, then all biases. The second bias of each pair is zero: ours are added into one.
    matrices = [params_of_side[name].T for params_of_side in params_of_sides for name in ("kernel", "recurrent_kernel")]
    zeros = np.zeros_like(params_of_sides[0]["kernel"][0])
    biases = [bias for params_of_side in params_of_sides for bias in (params_of_side.get("bias", zeros), zeros)]
    return np.concatenate([np.ravel(array) for array in matrices + biases])


def _run_part(layer: Any, weights: Any, xs: jax.Array, carry: Any, mask: Any, _: bool) -> tuple[Any, Any]:
    depth, directions = len(layers(layer)), len(layer.leaves())
    bidirectional = directions > depth
    batch, time, features = xs.shape
    units = first_cell(layer).units
    shape = features, units, depth, bidirectional
    zeros = jnp.zeros((directions, batch, units), xs.dtype)
    initial = (zeros, zeros) if carry is None else map(jnp.stack, zip(*states(carry), strict=True))
    lengths = jnp.full(batch, time) if mask is None else jax_peer.lengths(mask)
    unpacked = rnn.unpack_lstm_weights(weights, *shape)
    # After the lengths: features, units and number of layers, the dropout rate, and whether there are two directions.
    ys, h, c = rnn.lstm_ref(xs, *initial, *unpacked, lengths.astype("int32"), *shape[:3], 0.0, bidirectional)
    return ys, carry_of(layer, zip(h, c, strict=True))
