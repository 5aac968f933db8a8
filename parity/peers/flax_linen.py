"""Flax linen. Layout: ii, if, ig, io kernel (features, units), hi, hf, hg, ho kernel (units, units) and bias; carry (c, h)."""

from typing import Any

import flax
import jax
from flax import linen

import jlstm
from jlstm.activations import ACTIVATIONS
from jlstm.convert import flax as convert
from jlstm.layers.bidirectional import MERGES
from parity import jax_peer
from parity.case import Problem, Quantities, Values
from parity.exchange import lacking, layers, shortest


def version() -> str:
    """Flax' version."""
    return f"flax {flax.__version__}"


def lacks(problem: Problem) -> str:
    """Why Flax cannot be asked for a problem; "" if it can."""
    for (one,) in layers(problem.layer):
        if isinstance(one, jlstm.Bidirectional) and getattr(one.layer, "reverse", False):
            return "Flax' Bidirectional runs its first layer forwards"
    return lacking("Flax", problem, lambda *given: [convert.dump(*part) for part in layers(*given)])


def known_bug(problem: Problem) -> str:
    """Flax' `RNN` takes the carry at step `seq_lengths - 1`: of length 0, that of the last step of the padding."""
    return "" if shortest(problem) else "flax.linen.RNN runs over the padding of a sequence of length 0"


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities of the problem by `RNN` and `Bidirectional` of `LSTMCell`, of a single step by the cell."""
    return jax_peer.run(problem, values, convert.dump, _single)


def _single(layer: Any, weights: Any, xs: jax.Array, carry: Any, mask: Any, step: bool) -> tuple[Any, Any]:
    if step:
        state = jax_peer.start(layer, xs, carry)
        stepped: Any = _cell(layer, xs).apply({"params": weights["cell"]}, (state.c, state.h), xs[:, 0])
        (c, h), y = stepped
        return y[:, None], jlstm.Carry(h, c)
    if isinstance(layer, jlstm.RNN):
        initial = carry and (carry.c, carry.h)
        (c, h), ys = _rnn(layer, xs).apply({"params": weights}, xs, initial_carry=initial, seq_lengths=jax_peer.lengths(mask))
        return ys, jlstm.Carry(h, c)
    sides = ("forward", "backward")
    forward, backward = (_rnn(one, xs) for one in (layer.layer, layer.layer.flipped()))
    module = linen.Bidirectional(forward, backward, merge_fn=MERGES[layer.merge], return_carry=True)
    initial = carry and tuple((carry[side].c, carry[side].h) for side in sides)
    states, ys = module.apply({"params": weights}, xs, initial_carry=initial, seq_lengths=jax_peer.lengths(mask))
    return ys, {side: jlstm.Carry(h, c) for side, (c, h) in zip(sides, states, strict=True)}


def _rnn(layer: Any, xs: jax.Array) -> linen.RNN:
    return linen.RNN(_cell(layer, xs), return_carry=True, reverse=layer.reverse, keep_order=True)


def _cell(layer: Any, xs: jax.Array) -> linen.LSTMCell:
    cell = layer.cell
    g, gate = ACTIVATIONS[cell.activation], ACTIVATIONS[cell.recurrent_activation]
    return linen.LSTMCell(cell.units, gate_fn=gate, activation_fn=g, dtype=xs.dtype, param_dtype=xs.dtype)
