"""Haiku. Layout: w (features + units, 4·units), rows x then h, b (4·units,), and 1 more on f at every step; gates i g f o."""

from typing import Any

import haiku
import jax

import jlstm
from jlstm.convert import haiku as convert
from parity import jax_peer
from parity.case import Problem, Quantities, Values
from parity.exchange import lacking


def version() -> str:
    """Haiku's version."""
    return f"haiku {haiku.__version__}"


def lacks(problem: Problem) -> str:
    """Why Haiku cannot be asked for a problem; "" if it can."""
    return lacking("Haiku", problem, convert.dump, lengths="none")


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities of the problem by `dynamic_unroll` of `LSTM`, of a single step by the core itself."""
    return jax_peer.run(problem, values, convert.dump, _single)


def _single(layer: Any, weights: Any, xs: jax.Array, carry: Any, _: Any, step: bool) -> tuple[Any, Any]:
    before = jax_peer.start(layer, xs, carry)

    def unroll(xs: jax.Array) -> Any:
        core, state = haiku.LSTM(layer.cell.units), haiku.LSTMState(before.h, before.c)
        if step:
            y, state = core(xs[:, 0], state)
            return y[:, None], state
        return haiku.dynamic_unroll(core, xs, state, time_major=False)

    ys, (h, c) = haiku.without_apply_rng(haiku.transform(unroll)).apply({"lstm/linear": weights}, xs)
    return ys, jlstm.Carry(h, c)
