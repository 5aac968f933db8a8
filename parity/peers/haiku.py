"""Haiku.

Layout: w (features + units, 4·units), rows of x before rows of h, b (4·units,), and 1 is added to f at every step; gates i g f o.
A GRU has w_i (features, 3·units), w_h (units, 3·units), b (3·units,), gates z r a, and 1 - z in place of our z. A convolutional
LSTM has w (*window, features, 4·filters) for x and for h, and two biases.
"""

from typing import Any

import haiku
import jax

from jlstm import LSTMCell
from jlstm.cells import GRUCell
from jlstm.convert import haiku as convert
from parity.peers import _conv_weights as conv_weights
from parity.peers import _jax as jax_peer
from parity.peers._conv_weights import is_convolutional
from parity.peers._exchange import carry_like, lacking, layers
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values


def version() -> str:
    """Return Haiku's version."""
    return f"haiku {haiku.__version__}"


def lacks(problem: Problem) -> str:
    """Return why Haiku cannot run a problem; "" if it can."""
    return lacking("Haiku", problem, _dump, layers, lengths="none")


def known_bug(_: Problem) -> str:
    """Return "": nothing is known."""
    return ""


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities with `dynamic_unroll` of `LSTM`, `GRU` or `Conv…DLSTM`, or with the core for a single step."""
    return jax_peer.run(problem, values, _dump, _run_part)


def _dump(layer: Any, params: Any) -> Any:
    if is_convolutional(layer):
        if layer.reverse:
            raise ValueError("Haiku's modules run forwards only: take layer.flipped()")
        return conv_weights.dump("Haiku", layer, params, ("input_to_hidden", "hidden_to_hidden"), ("w", "b"))
    return convert.dump(layer, params)


def _run_part(layer: Any, weights: Any, xs: jax.Array, carry: Any, _: Any, step: bool) -> tuple[Any, Any]:
    initial, cell = jax_peer.initial_carry(layer, xs, carry), layer.cell

    def unroll(xs: jax.Array) -> Any:
        core: Any
        if isinstance(cell, GRUCell):
            core, state = haiku.GRU(cell.units, name="core"), initial.h
        else:
            core, state = haiku.LSTM(cell.units, name="core") if isinstance(cell, LSTMCell) else _conv(cell), initial
            # Its fields are (hidden, cell), in the order of our carry.
            state = haiku.LSTMState(*state)
        if step:
            y, state = core(xs[:, 0], state)
            return y[:, None], state
        return haiku.dynamic_unroll(core, xs, state, time_major=False)

    # Haiku names weights by module. Its LSTM puts them into a Linear inside, its GRU into itself.
    if isinstance(cell, LSTMCell):
        modules = {"core/linear": weights}
    else:
        modules = {"core": weights} if isinstance(cell, GRUCell) else {f"core/{name}": arrays for name, arrays in weights.items()}
    ys, last_carry = haiku.without_apply_rng(haiku.transform(unroll)).apply(modules, xs)
    return ys, carry_like(layer)(*(last_carry if isinstance(last_carry, tuple) else (last_carry,)))


def _conv(cell: Any) -> Any:
    module = getattr(haiku, f"Conv{len(cell.spatial)}DLSTM")
    return module(cell.spatial, cell.filters, cell.kernel_size, name="core")
