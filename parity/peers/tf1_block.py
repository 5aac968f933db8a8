"""TensorFlow 1's BlockLSTM. Layout: w (features + units, 4·units), rows x then h, b + forget_bias (4·units,); gates i ci f o.

Gate ci is our g. Also wci, wcf, wco (units,), the peepholes; states cs and h. The whole sequence, x time-major, is
one operation, `tf.raw_ops.BlockLSTM`, which LSTMBlockFusedCell ran.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

import jlstm
from jlstm.convert import layout
from jlstm.convert import tf1 as convert
from parity.case import Arrays, Problem, Quantities, Values, in_pieces
from parity.exchange import first_cell, lacking, layers, pulled
from parity.keras_peer import tf  # on the CPU

PEEPHOLES = {"wci": "w_i_diag", "wcf": "w_f_diag", "wco": "w_o_diag"}
SOURCE = "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/kernels/rnn/lstm_ops.cc"

Dump = Callable[[jlstm.Layer, Arrays], list[dict[str, np.ndarray]]]


def version() -> str:
    """TensorFlow's version."""
    return f"tf.raw_ops.BlockLSTM {tf.__version__}"


def lacks(problem: Problem) -> str:
    """Why BlockLSTM cannot be asked for a problem; "" if it can."""
    if problem.step or not all(isinstance(part, jlstm.RNN) and not part.reverse for (part,) in layers(problem.layer)):
        return "BlockLSTM runs whole sequences, forwards"
    return lacking("BlockLSTM", problem, dump, dtypes=("float32",), lengths="none")


def known_bug(problem: Problem) -> str:
    """Its gradient passes through the bound of c as if there were none."""
    clipped = any(getattr(first_cell(part), "cell_clip", None) for (part,) in layers(problem.layer))
    return f"the gradient of tf.raw_ops.BlockLSTM knows nothing of cell_clip ({SOURCE})" if clipped else ""


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities of the problem by one operation a layer, with a gradient tape."""
    return sequences(problem, values, tf.raw_ops.BlockLSTM, dump)


def dump(layer: Any, params: Any, **options: Any) -> list[dict[str, np.ndarray]]:
    """The variables of a TensorFlow 1 cell of each layer, with options of `jlstm.convert.tf1.dump`."""
    for (one,) in layers(layer):
        layout.refuse("BlockLSTM", one.cell, but=("peephole", "cell_clip"), kinds=(jlstm.LSTMCell,))
    return [convert.dump(*part, **options) for part in layers(layer, params)]


def sequences(problem: Problem, values: Values, operation: Callable[..., Any], dump: Dump) -> Quantities:
    """Compute all quantities by an operation that runs whole sequences, of weights that `dump` makes."""
    return in_pieces(problem, values, partial(_run, problem, operation, dump), None)


def _run(problem: Problem, operation: Callable[..., Any], dump: Dump, piece: Values) -> tuple[Any, ...]:
    given = jax.tree.map(lambda leaf: tf.constant(leaf, tf.float32), piece._replace(params=dump(problem.layer, piece.params)))
    leaves, structure = jax.tree.flatten((given.params, given.xs, given.carry))
    with tf.GradientTape() as tape:
        tape.watch(leaves)
        ys, carries = tf.transpose(given.xs, (1, 0, 2)), []
        for (layer, carry), weights in zip(layers(problem.layer, given.carry), given.params, strict=True):
            ys, last = _unroll(operation, layer.cell, weights, ys, carry)
            carries.append(last)
        carry = tuple(carries) if isinstance(problem.layer, jlstm.Stack) else carries[0]
        ys = tf.transpose(ys if problem.outputs == "all" else ys[-1:], (1, 0, 2))
    found = tape.gradient(jax.tree.leaves((ys, carry)), leaves, jax.tree.leaves((given.d_ys, given.d_carry)))
    (ys, carry), found = jax.tree.map(np.asarray, ((ys, carry), found))
    d_weights, d_xs, d_carry = jax.tree.unflatten(structure, found)
    return ys, carry, pulled(partial(dump, problem.layer), piece.params, d_weights), d_xs, d_carry


def _unroll(operation: Callable[..., Any], cell: Any, weights: Any, xs: Any, carry: Any) -> tuple[Any, jlstm.LSTMCarry]:
    zeros = tf.zeros((xs.shape[1], cell.units))
    before = jlstm.LSTMCarry(zeros, zeros) if carry is None else carry
    result = operation(
        seq_len_max=tf.constant(len(xs), tf.int64),
        x=xs,
        cs_prev=before.c,
        h_prev=before.h,
        w=weights["kernel"],
        b=weights["bias"],
        cell_clip=cell.cell_clip or -1,  # without it, 3
        use_peephole=cell.peephole,
        **{name: weights[theirs] if cell.peephole else tf.zeros(cell.units) for name, theirs in PEEPHOLES.items()},
    )
    return result.h, jlstm.LSTMCarry(result.h[-1], result.cs[-1])
