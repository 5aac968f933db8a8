"""TensorFlow 2's BlockLSTMV2. Layout: as BlockLSTM, but b has no forget bias, and the gates are i f ci o, as ours."""

from typing import Any

import numpy as np

from jlstm.convert import layout
from parity.peers import tf1_block
from parity.peers._keras import tf
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values

SOURCE = "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/python/ops/rnn_grad.py"

lacks = tf1_block.lacks


def version() -> str:
    """Return TensorFlow's version."""
    return f"tf.raw_ops.BlockLSTMV2 {tf.__version__}"


def known_bug(_: Problem) -> str:
    """Return the bug that affects every problem: the registered gradient is `BlockLSTMGrad`, not `BlockLSTMGradV2`."""
    return f"the gradient of tf.raw_ops.BlockLSTMV2 is that of BlockLSTM, where gates f and ci change places ({SOURCE})"


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities with one operation per layer and a gradient tape."""
    return tf1_block.sequences(problem, values, tf.raw_ops.BlockLSTMV2, _dump)


def _dump(layer: Any, params: Any) -> list[dict[str, np.ndarray]]:
    # This operation adds no forget bias, so none is subtracted from ours.
    weights_of_layers = tf1_block.dump(layer, params, forget_bias=0)
    return [
        weights | {name: layout.order(weights[name], "igfo", "ifgo") for name in ("kernel", "bias")}
        for weights in weights_of_layers
    ]
