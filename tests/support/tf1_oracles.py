"""The cells of TensorFlow 1 in NumPy, written from their equations, or run by TensorFlow's own operations.

Each takes variables by TensorFlow's names and xs (batch, time, features), and returns the outputs of all steps.
"""

import numpy as np

from parity.peers.keras import tf  # first: sets TensorFlow to the CPU, with kernels that round alike everywhere
from problems import FEATURES, UNITS

import tf_keras  # isort: skip


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(w, xs, forget_bias=1.0, norm=lambda gate, x: x):
    """TensorFlow 1's LSTM cell: i, j, f, o of x and h, with peepholes if the variables have them."""
    units = w["kernel"].shape[1] // 4
    h = c = np.zeros((len(xs), units))
    peep = [w.get(f"w_{gate}_diag", 0) for gate in "ifo"]
    ys = []
    for x in xs.swapaxes(0, 1):
        i, j, f, o = np.split(np.concatenate([x, h], 1) @ w["kernel"] + w.get("bias", 0), 4, 1)
        i, j, f, o = (norm(gate, a) for gate, a in zip(("input", "transform", "forget", "output"), (i, j, f, o), strict=True))
        c = norm("state", sigmoid(f + forget_bias + peep[1] * c) * c + sigmoid(i + peep[0] * c) * np.tanh(j))
        h = np.tanh(c) * sigmoid(o + peep[2] * c)
        ys.append(h)
    return np.stack(ys, 1)


def normalized_lstm(w, xs):
    """`LayerNormBasicLSTMCell`."""

    def norm(gate, a):
        a = (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-12)
        return a * w[f"{gate}/gamma"] + w[f"{gate}/beta"]

    return lstm(w, xs, norm=norm)


def gru(w, xs):
    """TensorFlow 1's `GRUCell`."""
    units = w["candidate/bias"].size
    h, ys = np.zeros((len(xs), units)), []
    for x in xs.swapaxes(0, 1):
        r, u = np.split(sigmoid(np.concatenate([x, h], 1) @ w["gates/kernel"] + w["gates/bias"]), 2, 1)
        h = u * h + (1 - u) * np.tanh(np.concatenate([x, r * h], 1) @ w["candidate/kernel"] + w["candidate/bias"])
        ys.append(h)
    return np.stack(ys, 1)


def keras_gru(w, xs):
    """Keras's GRU with reset_after, given the weights of TensorFlow 1's CuDNN-compatible cell."""
    layer = tf_keras.layers.GRU(UNITS, return_sequences=True, dtype="float64")
    layer.build(xs.shape)
    of_x, of_h = w["gates/kernel"][:FEATURES], w["gates/kernel"][FEATURES:]
    flip = lambda gates, last: np.concatenate([gates[..., UNITS:], gates[..., :UNITS], last], -1)
    name = "candidate/{}_projection/{}".format
    bias = [
        flip(w["gates/bias"], w[name("input", "bias")]),
        flip(np.zeros(2 * UNITS), w[name("hidden", "bias")]),
    ]
    kernels = [flip(of_x, w[name("input", "kernel")]), flip(of_h, w[name("hidden", "kernel")])]
    layer.set_weights([*kernels, np.stack(bias)])
    return layer(xs).numpy()


def block_lstm(w, xs):
    """`tf.raw_ops.LSTMBlockCell`, which has float32, step by step."""
    w = {name: array.astype("f") for name, array in w.items()}
    cs = h = np.zeros((len(xs), UNITS), "f")
    peep = {f"wc{gate}": w.get(f"w_{gate}_diag", np.zeros(UNITS, "f")) for gate in "ifo"}
    options = {"w": w["kernel"], "b": w["bias"], **peep, "forget_bias": 1.0, "cell_clip": -1, "use_peephole": "w_i_diag" in w}
    ys = []
    for x in xs.astype("f").swapaxes(0, 1):
        result = tf.raw_ops.LSTMBlockCell(x=x, cs_prev=cs, h_prev=h, **options)
        cs, h = result.cs, result.h
        ys.append(h)
    return np.stack(ys, 1)


def block_gru(w, xs):
    """`tf.raw_ops.GRUBlockCell`, which has float32, step by step."""
    w = {name: array.astype("f") for name, array in w.items()}
    h, ys = np.zeros((len(xs), UNITS), "f"), []
    for x in xs.astype("f").swapaxes(0, 1):
        h = tf.raw_ops.GRUBlockCell(x=x, h_prev=h, **w).h
        ys.append(h)
    return np.stack(ys, 1)


def plain(w, xs, function=np.tanh):
    """`BasicRNNCell`."""
    h, ys = np.zeros((len(xs), w["bias"].size)), []
    for x in xs.swapaxes(0, 1):
        h = function(np.concatenate([x, h], 1) @ w["kernel"] + w["bias"])
        ys.append(h)
    return np.stack(ys, 1)


def relu(x):
    return np.maximum(x, 0)
