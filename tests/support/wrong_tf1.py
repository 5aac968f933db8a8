"""TensorFlow checkpoints whose variables are not those of plain cells, and checkpoints that are right."""

import numpy as np

from parity.peers._keras import tf

_RNG = np.random.default_rng(0)


def variables(scope, features=3, units=4, **shapes):
    """Return the shapes of a cell's kernel and bias, and of further variables, below its scope."""
    shapes_by_name = {"kernel": (features + units, 4 * units), "bias": (4 * units,)} | shapes
    return {f"{scope}/{name.replace('__', '/')}": shape for name, shape in shapes_by_name.items() if shape}


def gru(scope, features=3, units=4, **shapes):
    shapes_by_name = {"gates__kernel": (features + units, 2 * units), "gates__bias": (2 * units,)}
    shapes_by_name |= {"candidate__kernel": (features + units, units), "candidate__bias": (units,)}
    return variables(scope, **{"kernel": None, "bias": None} | shapes_by_name | shapes)


def norms():
    gates = ("input", "transform", "forget", "output", "state")
    return {f"{gate}__{name}": (4,) for gate in gates for name in ("gamma", "beta")}


def sides(*names):
    return {k: v for side in names for k, v in variables(f"rnn/bidirectional_rnn/{side}/lstm_cell").items()}


WRONG = {
    "further variable": variables("rnn/lstm_cell", zoneout=(4,)),
    "normalized": variables("rnn/layer_norm_basic_lstm_cell", bias=None, **norms()),
    "one of three peepholes": variables("rnn/lstm_cell", w_i_diag=(4,)),
    "no bias": variables("rnn/lstm_cell", bias=None),
    "candidate without bias": gru("rnn/gru_cell", candidate__bias=None),
    "one direction": sides("bw"),
    "a cell left out": variables("rnn/multi_rnn_cell/cell_1/lstm_cell"),
    "attention around": variables("rnn/attention_wrapper/lstm_cell") | {"rnn/attention_wrapper/attention_layer/kernel": (8, 4)},
    "opaque beside a cell": variables("rnn/lstm_cell") | {"decoder/cudnn_lstm/opaque_kernel": (200,)},
    "cell of one's own": variables("rnn/my_lstm_cell"),
    "cell of one's own beside another": variables("rnn/lstm_cell") | variables("decoder/plastic_lstm_cell"),
    "matrices of each gate beside a cell": variables("rnn/lstm_cell") | {f"decoder/W_{gate}": (7, 4) for gate in "ifgo"},
}

RIGHT = {
    "LSTM with an embedding and an optimizer": variables("rnn/lstm_cell")
    | {"embedding": (9, 3), "rnn/lstm_cell/kernel/Adam": (7, 16), "rnn/lstm_cell/bias/Adam": (16,)},
    "peepholes and a projection": variables(
        "rnn/lstm_cell", kernel=(5, 16), projection__kernel=(4, 2), **dict.fromkeys(("w_i_diag", "w_f_diag", "w_o_diag"), (4,))
    ),
    "GRU": gru("rnn/gru_cell"),
    "two directions": sides("fw", "bw"),
    "two layers": variables("rnn/multi_rnn_cell/cell_0/basic_lstm_cell")
    | variables("rnn/multi_rnn_cell/cell_1/basic_lstm_cell", features=4),
    "two cells in one scope": variables("rnn/lstm_cell") | variables("rnn/lstm_cell_1"),
}


def write(path, shapes):
    """Write random variables to a checkpoint, and return its name."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [
            tf.Variable(_RNG.normal(0, 0.4, shape).astype("f4"), name=name, use_resource=False) for name, shape in shapes.items()
        ]
        session.run([variable.initializer for variable in made])
        tf.compat.v1.train.Saver(made).save(session, str(path), write_meta_graph=False)
    return path
