"""TensorFlow 1's BlockLSTM.

Layout: w (features + units, 4·units), rows of x before rows of h, b (4·units,), which includes the forget bias; gates i ci f o.
Gate ci is our g. The peepholes are wci, wcf, wco (units,); the states are cs and h. One operation, `tf.raw_ops.BlockLSTM`, runs
the whole sequence, with time-major x. LSTMBlockFusedCell used it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

import jlstm
from jlstm.convert import layout
from jlstm.convert import tf1 as convert
from parity.peers._exchange import first_cell, joined, lacking, layers, pulled
from parity.peers._keras import tf  # on the CPU
from parity.problem import Arrays, Problem
from parity.quantities import Quantities, in_pieces
from parity.values import Values

PEEPHOLES = {"wci": "w_i_diag", "wcf": "w_f_diag", "wco": "w_o_diag"}
SOURCE = "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/kernels/rnn/lstm_ops.cc"

Dump = Callable[[jlstm.Layer, Arrays], list[dict[str, np.ndarray]]]


def version() -> str:
    """Return TensorFlow's version."""
    return f"tf.raw_ops.BlockLSTM {tf.__version__}"


def lacks(problem: Problem) -> str:
    """Return why BlockLSTM cannot run a problem; "" if it can."""
    parts = [layer for (layer,) in layers(problem.layer)]
    if problem.step or any(layer.children or layer.reverse for layer in parts):
        return "BlockLSTM runs whole sequences, forwards"
    return lacking("BlockLSTM", problem, dump, dtypes=("float32",), lengths="none")


def known_bug(problem: Problem) -> str:
    """Return the bug of cell_clip, which the gradient ignores; "" if the problem has none."""
    clipped = any(getattr(first_cell(part), "cell_clip", None) for (part,) in layers(problem.layer))
    return f"the gradient of tf.raw_ops.BlockLSTM knows nothing of cell_clip ({SOURCE})" if clipped else ""


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities with one operation per layer and a gradient tape."""
    return sequences(problem, values, tf.raw_ops.BlockLSTM, dump)


def dump(layer: Any, params: Any, **options: Any) -> list[dict[str, np.ndarray]]:
    """Return the variables of a TensorFlow 1 cell for each layer; `options` go to `jlstm.convert.tf1.dump`."""
    for (inner,) in layers(layer):
        layout.refuse("BlockLSTM", inner.cell, but=("peephole", "cell_clip"), kinds=(jlstm.LSTMCell,))
    return [convert.dump(*part, **options) for part in layers(layer, params)]


def sequences(problem: Problem, values: Values, operation: Callable[..., Any], dump: Dump) -> Quantities:
    """Compute the outputs, the last carry and all gradients with an operation that runs whole sequences.

    Args:
        problem: what to compute.
        values: its numbers.
        operation: `tf.raw_ops.BlockLSTM` or one with the same arguments.
        dump: converts a layer's parameters to the operation's weights.
    """
    return in_pieces(problem, values, partial(_run, problem, operation, dump), initial_bias=None)


def _run(problem: Problem, operation: Callable[..., Any], dump: Dump, piece: Values) -> tuple[Any, ...]:
    # Weights are constants here: the tape watches them, and their gradients are mapped to our parameters by `pulled`.
    tensors = jax.tree.map(lambda leaf: tf.constant(leaf, tf.float32), piece._replace(params=dump(problem.layer, piece.params)))
    leaves, structure = jax.tree.flatten((tensors.params, tensors.xs, tensors.carry))
    with tf.GradientTape() as tape:
        tape.watch(leaves)
        ys, carries = tf.transpose(tensors.xs, (1, 0, 2)), []
        for (layer, carry), weights in zip(layers(problem.layer, tensors.carry), tensors.params, strict=True):
            ys, last_carry = _unroll(operation, layer.cell, weights, ys, carry)
            carries.append(last_carry)
        carry = joined(problem.layer, carries)
        ys = tf.transpose(ys if problem.outputs == "all" else ys[-1:], (1, 0, 2))
    gradients = tape.gradient(jax.tree.leaves((ys, carry)), leaves, jax.tree.leaves((tensors.d_ys, tensors.d_carry)))
    (ys, carry), gradients = jax.tree.map(np.asarray, ((ys, carry), gradients))
    d_weights, d_xs, d_carry = jax.tree.unflatten(structure, gradients)
    return ys, carry, pulled(partial(dump, problem.layer), piece.params, d_weights), d_xs, d_carry


def _unroll(operation: Callable[..., Any], cell: Any, weights: Any, xs: Any, carry: Any) -> tuple[Any, jlstm.LSTMCarry]:
    zeros = tf.zeros((xs.shape[1], cell.units))
    initial = jlstm.LSTMCarry(zeros, zeros) if carry is None else carry
    result = operation(
        seq_len_max=tf.constant(len(xs), tf.int64),
        x=xs,
        cs_prev=initial.c,
        h_prev=initial.h,
        w=weights["kernel"],
        b=weights["bias"],
        cell_clip=cell.cell_clip or -1,  # the operation's default is 3; -1 means no clip
        use_peephole=cell.peephole,
        # The operation requires peephole weights even if it does not use them.
        **{name: weights[tf_name] if cell.peephole else tf.zeros(cell.units) for name, tf_name in PEEPHOLES.items()},
    )
    # cs holds the cell state of every step, before the output's tanh.
    return result.h, jlstm.LSTMCarry(result.h[-1], result.cs[-1])
