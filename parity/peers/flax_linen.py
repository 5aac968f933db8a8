"""Flax Linen.

Layout: ii, if, ig, io kernel (features, units), hi, hf, hg, ho kernel (units, units) and bias; carry (c, h). A GRU has ir, iz, in
kernel and bias, hr, hz, hn kernel, and hn bias; its carry is h. A convolutional LSTM has ih, hh kernel (*window, features,
4·filters) and bias, gates i g f o, and adds 1 to f at every step.
"""

from functools import partial
from typing import Any

import flax
import jax
from flax import linen

from jlstm.activations import ACTIVATIONS
from jlstm.cells import ConvLSTMCell, GRUCell
from jlstm.cells.convolution import axes
from jlstm.convert import flax as convert
from jlstm.layers.bidirectional import MERGES
from parity.peers import _conv_weights as conv_weights
from parity.peers import _flax as flax_peer
from parity.peers import _jax as jax_peer
from parity.peers._conv_weights import is_convolutional
from parity.peers._flax import ours, theirs
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values


def version() -> str:
    """Return Flax's version."""
    return f"flax {flax.__version__}"


def lacks(problem: Problem) -> str:
    """Return why Flax cannot run a problem; "" if it can."""
    return flax_peer.lacks(dump, problem)


def known_bug(problem: Problem) -> str:
    """Return what `RNN` gets wrong in padding; "" if nothing."""
    return jax_peer.bug_of_padding("flax.linen.RNN", problem, "https://github.com/google/flax/pull/2604")


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities with `RNN` and `Bidirectional`, or with the cell alone for a single step."""
    return jax_peer.run(problem, values, dump, partial(run_part, linen))


def dump(layer: Any, params: Any) -> Any:
    """Return the weights of a layer as the parameters of an `RNN` or `Bidirectional`."""
    if is_convolutional(layer):
        return {"cell": conv_weights.dump("Flax", layer, params, ("ih", "hh"), ("kernel", "bias"))}
    return convert.dump(layer, params)


def run_part(modules: Any, layer: Any, weights: Any, xs: jax.Array, carry: Any, mask: Any, step: bool) -> tuple[Any, Any]:
    """Run one layer by `linen` or its replacement, `modules`; the other arguments are those of `RunPart`."""
    if step:
        state = theirs(jax_peer.initial_carry(layer, xs, carry))
        stepped: Any = _cell(layer, xs).apply({"params": weights["cell"]}, state, xs[:, 0])
        last_carry, y = stepped
        return y[:, None], ours(last_carry)
    if not layer.children:
        initial = carry and theirs(carry)
        last_carry, ys = _rnn(modules, layer, xs).apply(
            {"params": weights}, xs, initial_carry=initial, seq_lengths=jax_peer.lengths(mask)
        )
        return ys, ours(last_carry)
    sides = ("forward", "backward")
    forward, backward = (_rnn(modules, child, xs) for child in layer.children.values())
    module = modules.Bidirectional(forward, backward, merge_fn=MERGES[layer.merge], return_carry=True)
    initial = carry and tuple(theirs(carry[side]) for side in sides)
    states, ys = module.apply({"params": weights}, xs, initial_carry=initial, seq_lengths=jax_peer.lengths(mask))
    return ys, {side: ours(last_carry) for side, last_carry in zip(sides, states, strict=True)}


def _rnn(modules: Any, layer: Any, xs: jax.Array) -> linen.RNN:
    # keep_order: the outputs of a reversed run come in the order of the inputs, as ours do.
    return modules.RNN(_cell(layer, xs), return_carry=True, reverse=layer.reverse, keep_order=True)


def _cell(layer: Any, xs: jax.Array) -> linen.RNNCellBase:
    cell: Any = layer.cell
    dtypes: dict[str, Any] = {"dtype": xs.dtype, "param_dtype": xs.dtype}
    if isinstance(cell, ConvLSTMCell):
        return linen.ConvLSTMCell(cell.filters, axes(cell.kernel_size, len(cell.spatial)), **dtypes)
    kind = linen.GRUCell if isinstance(cell, GRUCell) else linen.LSTMCell
    g, gate = ACTIVATIONS[cell.activation], ACTIVATIONS[cell.recurrent_activation]
    return kind(cell.units, gate_fn=gate, activation_fn=g, **dtypes)
