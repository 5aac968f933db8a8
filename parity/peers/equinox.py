"""Equinox.

Layout: weight_ih (4·units, features), weight_hh (4·units, units), bias (4·units,); gates i f g o; carry (h, c). A GRU has 3·units
rows, gates r z n, and bias_n (units,); its carry is h alone.
"""

from typing import Any

import equinox
import jax

import jlstm
from jlstm.cells import GRUCell, HiddenCarry
from jlstm.convert import equinox as convert
from parity.peers import _jax as jax_peer
from parity.peers._exchange import lacking, layers
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values


def version() -> str:
    """Return Equinox's version."""
    return f"equinox {equinox.__version__}"


def lacks(problem: Problem) -> str:
    """Return why Equinox cannot run a problem; "" if it can."""
    return lacking("Equinox", problem, convert.dump, layers, lengths="none")


def known_bug(_: Problem) -> str:
    """Return "": nothing is known."""
    return ""


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities with `LSTMCell` or `GRUCell` in `lax.scan`, as in Equinox's examples."""
    return jax_peer.run(problem, values, convert.dump, _run_part)


def _run_part(layer: Any, weights: Any, xs: jax.Array, carry: Any, _: Any, step: bool) -> tuple[Any, Any]:
    units, columns = weights["weight_hh"].shape[1], weights["weight_ih"].shape[1]
    options = {"use_bias": "bias" in weights, "dtype": xs.dtype, "key": jax.random.key(0)}
    gru = isinstance(layer.cell, GRUCell)
    template = (equinox.nn.GRUCell if gru else equinox.nn.LSTMCell)(columns, units, **options)
    # A cell is built with random weights. `tree_at` replaces them with ours, for which gradients are asked.
    cell = equinox.tree_at(lambda cell: [getattr(cell, name) for name in weights], template, list(weights.values()))
    initial = jax_peer.initial_carry(layer, xs, carry)

    def body(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        # Equinox's cells have no batch axis.
        new_state = jax.vmap(cell)(x, state.h if gru else tuple(state))
        state = HiddenCarry(new_state) if gru else jlstm.LSTMCarry(*new_state)
        return state, state.h

    if step:
        last_carry, y = body(initial, xs[:, 0])
        return y[:, None], last_carry
    last_carry, ys = jax.lax.scan(body, initial, xs.swapaxes(0, 1), reverse=layer.reverse)
    return ys.swapaxes(0, 1), last_carry
