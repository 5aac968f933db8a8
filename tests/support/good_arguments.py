"""Arguments that the good calls of `bad_calls.py` and `bad_calls_training.py` share."""

import jax
import numpy as np

from jlstm import LSTM, Bidirectional, Stack, data

KEY = jax.random.key(0)
NUMBERS = "NaN, huge, negative"  # inputs are computed with as they come, whatever their values
RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


LAYER, BIDIRECTIONAL = LSTM(4, backend="scan"), Bidirectional(LSTM(4, backend="scan"))
STACK, PARAMS, XS = Stack((LAYER, LAYER)), LAYER.init(KEY, 3), floats(2, 5, 3)
CARRY, MASK = LAYER.initial_carry(PARAMS, (2,)), np.ones((2, 5), bool)
SEQUENCES = [np.array([1, 2, 3]), np.array([4, 5])]
MINIBATCHES = data.Minibatches((floats(6, 3), floats(6)), 2)
INDEX = {"a": 1, "b": 2}
