"""Equinox. Layout: weight_ih (4·units, features), weight_hh (4·units, units), bias (4·units,); gates i f g o; carry (h, c)."""

from typing import Any

import equinox
import jax

import jlstm
from jlstm.convert import equinox as convert
from parity import jax_peer
from parity.case import Problem, Quantities, Values
from parity.exchange import lacking, layers


def version() -> str:
    """Equinox' version."""
    return f"equinox {equinox.__version__}"


def lacks(problem: Problem) -> str:
    """Why Equinox cannot be asked for a problem; "" if it can."""
    return lacking("Equinox", problem, lambda *given: [convert.dump(*part) for part in layers(*given)], lengths="none")


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities of the problem by `LSTMCell`, over a sequence in `lax.scan`, as Equinox' examples do."""
    return jax_peer.run(problem, values, convert.dump, _single)


def _single(layer: Any, weights: Any, xs: jax.Array, carry: Any, _: Any, step: bool) -> tuple[Any, Any]:
    rows, columns = weights["weight_ih"].shape
    options = {"use_bias": "bias" in weights, "dtype": xs.dtype, "key": jax.random.key(0)}
    empty = equinox.nn.LSTMCell(columns, rows // 4, **options)
    cell = equinox.tree_at(lambda cell: [getattr(cell, name) for name in weights], empty, list(weights.values()))
    before = jax_peer.start(layer, xs, carry)
    if step:
        state = jlstm.Carry(*jax.vmap(cell)(xs[:, 0], tuple(before)))
        return state.h[:, None], state

    def body(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        state = jax.vmap(cell)(x, state)
        return state, state[0]

    last, ys = jax.lax.scan(body, tuple(before), xs.swapaxes(0, 1), reverse=layer.reverse)
    return ys.swapaxes(0, 1), jlstm.Carry(*last)
