"""TensorFlow 1.

Layout: kernel (features + size of h, 4·units), rows of x before rows of h, bias to which forget_bias is added; gates i j f o;
carry (c, h). Gate j is our g. Optional: w_i_diag, w_f_diag, w_o_diag (units,) and projection/kernel (units, size of h). A GRU has
gates/kernel (features + units, 2·units), gates r u, and candidate/kernel (features + units, units), rows of x before rows of r ⊙
h.
"""

import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from tf_keras.src.layers.rnn import legacy_cell_wrappers, legacy_cells

import jlstm
from jlstm.cells import Dropout, GRUCell, Residual
from jlstm.convert import tf1 as convert
from parity.peers import _keras as keras_peer
from parity.peers._exchange import carry_of, lacking, pulled, states
from parity.peers._keras import tf  # on the CPU, with kernels that round alike everywhere
from parity.problem import Problem
from parity.quantities import Quantities, in_pieces
from parity.values import Values

tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # every old class says at each use what would replace it

FUNCTIONS = {"linear": tf.identity, "hard_sigmoid": lambda x: tf.nn.relu6(x + 3) / 6}
MERGES = {
    "concat": lambda f, b: tf.concat([f, b], -1),
    "sum": lambda f, b: f + b,
    "mul": lambda f, b: f * b,
    "ave": lambda f, b: (f + b) / 2,
    None: lambda f, b: {"forward": f, "backward": b},
}


def version() -> str:
    """Return TensorFlow's version."""
    return f"tensorflow.compat.v1 {tf.__version__}"


def lacks(problem: Problem) -> str:
    """Return why TensorFlow 1 cannot run a problem; "" if it can."""
    ours = _unwrapped(problem.layer)
    if any(len(path) > 1 for path, _ in ours.leaves()):
        return "MultiRNNCell has cells, and no layer of two directions"
    if any(part.reverse for part in _single_layers(ours)[:1]):
        return "dynamic_rnn runs forwards, and bidirectional_dynamic_rnn its first cell"
    if ours is not problem.layer:
        if problem.outputs == "last" or problem.step or problem.batches > 1:
            return "wrapped cells are compared over whole sequences, with all outputs"
        problem = replace(problem, layer=ours)
    return lacking("TensorFlow 1", problem, _dump, dtypes=("float64", "float32"))


known_bug = partial(keras_peer.known_bug, "dynamic_rnn")


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities with `LSTMCell` or `GRUCell` in `(bidirectional_)dynamic_rnn`; a stack is a `MultiRNNCell`."""
    return in_pieces(problem, values, partial(_run, problem), None)


def _single_layers(layer: Any) -> list[Any]:
    """Return the layers of one cell each: lowest first, forward before backward."""
    return [leaf for _, leaf in layer.leaves()]


def _unwrapped(layer: Any) -> Any:
    """Return the layer without the wrapper around its LSTM cell; other layers unchanged."""
    cell: Any = getattr(layer, "cell", None)
    wrapped = isinstance(cell, Residual) or (isinstance(cell, Dropout) and cell.variational)
    return replace(layer, cell=cell.cell) if wrapped and isinstance(cell.cell, jlstm.LSTMCell) else layer


def _dump(layer: Any, params: Any) -> list[dict[str, np.ndarray]]:
    cells: list[dict[str, np.ndarray]] = []
    _unwrapped(layer).map(lambda leaf, leaf_params: cells.append(convert.dump(leaf, leaf_params)), params)
    return cells


def _run(problem: Problem, piece: Values) -> tuple[Any, ...]:
    layer, dtype = problem.layer, tf.as_dtype(problem.dtype)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tensors = jax.tree.map(lambda leaf: tf.constant(leaf, dtype), piece._replace(params=None, mask=None))
        cells = [_cell(inner.cell, dtype) for inner in _single_layers(_unwrapped(layer))]
        ys, last = _unroll(problem, [_wrap(layer, inner, tensors) for inner in cells], tensors, piece.mask)
        carry = carry_of(layer, ((state.h, state.c) if hasattr(state, "c") else (state,) for state in last))
        variables_by_name = [{_name(variable): variable for variable in cell.variables} for cell in cells]
        leaves, structure = jax.tree.flatten((variables_by_name, tensors.xs, tensors.carry))
        targets, cotangents = jax.tree.leaves((ys, carry)), jax.tree.leaves((tensors.d_ys, tensors.d_carry))
        gradients = tf.gradients(targets, leaves, cotangents, unconnected_gradients="zero")
        # A cell makes its variables when it is first called, so its weights are loaded after the graph is built.
        for variables, weights in zip(variables_by_name, _dump(layer, piece.params), strict=True):
            for name, variable in variables.items():
                variable.load(weights[name].astype(dtype.as_numpy_dtype), session)
        outputs, results_structure = jax.tree.flatten((ys, carry))
        results, gradient_values = session.run([outputs, gradients])
    d_weights, d_xs, d_carry = jax.tree.unflatten(structure, gradient_values)
    return *jax.tree.unflatten(results_structure, results), pulled(partial(_dump, layer), piece.params, d_weights), d_xs, d_carry


def _cell(cell: Any, dtype: Any) -> Any:
    activation = FUNCTIONS.get(cell.activation) or getattr(tf.nn, cell.activation)
    if isinstance(cell, GRUCell):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`tf.nn.rnn_cell.GRUCell` is deprecated")  # it is what is asked for
            return legacy_cells.GRUCell(cell.units, activation=activation, dtype=dtype)
    clips = {"cell_clip": cell.cell_clip, "proj_clip": cell.projection_clip}
    options = {"use_peepholes": cell.peephole, "num_proj": cell.projection, "activation": activation, "dtype": dtype}
    return legacy_cells.LSTMCell(cell.units, **options, **clips)


def _wrap(layer: Any, tf_cell: Any, tensors: Values) -> Any:
    """Wrap TensorFlow's cell as ours is, and hand it the uniform numbers from which it computes our dropout masks."""
    cell = getattr(layer, "cell", None)
    if isinstance(cell, Residual):
        return legacy_cell_wrappers.ResidualWrapper(tf_cell)
    if not isinstance(cell, Dropout):
        return tf_cell
    rates = {"input": cell.inputs, "output": cell.outputs, "state": cell.state}
    keep_probs = {f"{name}_keep_prob": 1 - rate for name, rate in rates.items()}
    options = {"variational_recurrent": True, "input_size": tensors.xs.shape[-1], "dtype": tensors.xs.dtype}
    wrapper = legacy_cell_wrappers.DropoutWrapper(tf_cell, **options, **keep_probs)
    # DropoutWrapper keeps an element where floor(keep_prob + drawn number) is 1. So 0.99 keeps it for any keep_prob from 0.01
    # on, and 0 drops it.
    uniform_numbers = {name: tf.sign(mask) * 0.99 for name, mask in (tensors.dropout_masks or {}).items()}
    # A variational wrapper draws its numbers once, when it is made, and uses these attributes at every step.
    if "inputs" in uniform_numbers:
        wrapper._recurrent_input_noise = uniform_numbers["inputs"]
    if "outputs" in uniform_numbers:
        wrapper._recurrent_output_noise = uniform_numbers["outputs"]
    if "state" in uniform_numbers:
        # The wrapper's default filter never drops c: its entry only completes the structure.
        wrapper._recurrent_state_noise = legacy_cells.LSTMStateTuple(uniform_numbers["state"], uniform_numbers["state"])
    return wrapper


def _name(variable: Any) -> str:
    """Return a variable's name in its cell: `kernel`, `gates/kernel`, …."""
    *scopes, name = variable.name.removesuffix(":0").split("/")
    return f"{scopes[-1]}/{name}" if scopes[-1] in ("projection", "gates", "candidate") else name


def _unroll(problem: Problem, cells: list[Any], tensors: Values, mask: Any) -> tuple[Any, list[Any]]:
    """Return the outputs, and the last states of all cells."""
    initial = tensors.carry and [_theirs(state) for state in states(tensors.carry)]
    lengths, layer = None if mask is None else mask.sum(1), problem.layer
    options: dict[str, Any] = {"sequence_length": lengths, "dtype": tensors.xs.dtype}
    if isinstance(layer, jlstm.Bidirectional):
        initial_states = dict(zip(("initial_state_fw", "initial_state_bw"), initial or (None, None), strict=True))
        ys, last = tf.compat.v1.nn.bidirectional_dynamic_rnn(*cells, tensors.xs, **initial_states, **options)
        merge: Any = MERGES[layer.merge]
        ends = last
    else:
        stacked = bool(layer.children)
        cell = legacy_cells.MultiRNNCell(cells) if stacked else cells[0]
        state = initial and (tuple(initial) if stacked else initial[0])
        sequence, last = tf.compat.v1.nn.dynamic_rnn(cell, tensors.xs, initial_state=state, **options)
        ys, last, merge = (sequence,), last if stacked else (last,), tf.identity
        ends = last[-1:]  # the top layer's state holds the last output
    if problem.outputs == "last":
        hs = [getattr(end, "h", end) for end in ends]
        has_output = tf.ones_like(hs[0]) if mask is None else tf.constant(mask.any(1)[:, None], tf.bool)
        ys = [tf.where(tf.cast(has_output, tf.bool), h, tf.zeros_like(h))[:, None] for h in hs]
    return merge(*ys), list(last)


def _theirs(state: Any) -> Any:
    return legacy_cells.LSTMStateTuple(state.c, state.h) if isinstance(state, jlstm.LSTMCarry) else state.h
