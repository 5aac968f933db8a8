"""Flax NNX.

Forward layers are `OptimizedLSTMCell`: dense_i kernel (features, 4·units), dense_h kernel (units, 4·units) and bias, gates i f g
o; carry (c, h). Backward layers are `LSTMCell`: ii, if_, ig, io kernel (features, units), hi, hf, hg, ho kernel (units, units)
and bias. A GRU has dense_i kernel (features, 3·units) and bias, dense_h kernel, gates r z n.
"""

from functools import partial
from typing import Any

import flax
import jax
from flax import nnx

import jlstm
from jlstm.activations import ACTIVATIONS
from jlstm.cells import GRUCell
from jlstm.convert import flax as convert
from jlstm.layers.bidirectional import MERGES
from parity.peers import _flax as flax_peer
from parity.peers import _jax as jax_peer
from parity.peers._flax import ours, theirs
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values

SIDES = {"forward": "forward_rnn", "backward": "backward_rnn"}


def version() -> str:
    """Return Flax's version."""
    return f"flax.nnx {flax.__version__}"


def lacks(problem: Problem) -> str:
    """Return why Flax cannot run a problem; "" if it can."""
    return flax_peer.lacks(dump, problem)


def known_bug(problem: Problem) -> str:
    """Return what `RNN` gets wrong in padding; "" if nothing."""
    return jax_peer.bug_of_padding("flax.nnx.RNN", problem, "https://github.com/google/flax/pull/2604")


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities with `RNN` and `Bidirectional`, or with the cell alone for a single step."""
    return jax_peer.run(problem, values, dump, partial(run_part, nnx))


def dump(layer: Any, params: Any) -> Any:
    """Return the weights of a layer as the parameters of an `RNN` or `Bidirectional`."""
    if "forward" in layer.children:
        return {SIDES[side]: dump(child, params[side]) for side, child in layer.children.items()}
    cell = getattr(layer, "cell", None)
    if isinstance(cell, GRUCell) and cell.reset_after and cell.use_bias:
        raise ValueError("Flax nnx.GRUCell has no recurrent_bias, as linen's has: take use_bias=False")
    # Both classes are used, since their code differs: the fused one has two dense layers, the other one eight.
    fused = isinstance(cell, jlstm.LSTMCell) and not layer.reverse
    return convert.dump(layer, params, module="nnx.OptimizedLSTMCell" if fused else "nnx")


def run_part(modules: Any, layer: Any, weights: Any, xs: jax.Array, carry: Any, mask: Any, step: bool) -> tuple[Any, Any]:
    """Run one layer by `nnx` or its replacement, `modules`; the other arguments are those of `RunPart`."""
    options: dict[str, Any] = {"seq_lengths": jax_peer.lengths(mask), "return_carry": True, "rngs": nnx.Rngs(0)}
    if not layer.children:
        rnn = _rnn(modules, layer, xs)
        nnx.update(rnn, weights)
        if step:
            last_carry, y = rnn.cell(theirs(jax_peer.initial_carry(layer, xs, carry)), xs[:, 0])
            return y[:, None], ours(last_carry)
        last_carry, ys = rnn(xs, initial_carry=carry and theirs(carry), **options)
        return ys, ours(last_carry)
    forward, backward = (_rnn(modules, child, xs) for child in layer.children.values())
    module = modules.Bidirectional(forward, backward, merge_fn=MERGES[layer.merge])
    nnx.update(module, weights)
    states, ys = module(xs, initial_carry=carry and tuple(theirs(carry[side]) for side in SIDES), **options)
    return ys, {side: ours(last_carry) for side, last_carry in zip(SIDES, states, strict=True)}


def _rnn(modules: Any, layer: Any, xs: jax.Array) -> nnx.RNN:
    cell: Any = layer.cell
    plain = nnx.LSTMCell if layer.reverse else nnx.OptimizedLSTMCell
    kind: Any = nnx.GRUCell if isinstance(cell, GRUCell) else plain
    zeros = jax.nn.initializers.zeros  # our weights replace these
    options = {"kernel_init": zeros, "recurrent_kernel_init": zeros, "dtype": xs.dtype, "param_dtype": xs.dtype}
    options |= {"gate_fn": ACTIVATIONS[cell.recurrent_activation], "activation_fn": ACTIVATIONS[cell.activation]}
    return modules.RNN(kind(xs.shape[-1], cell.units, rngs=nnx.Rngs(0), **options), reverse=layer.reverse, keep_order=True)
