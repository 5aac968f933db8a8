"""Cells with attention, and small random problems for them."""

from functools import partial

import jax
import numpy as np

from jlstm import RNN, LSTMCell
from jlstm.attention import Attention, with_memory
from problems import BATCH, FEATURES, TIME, UNITS, normal

SOURCE, SIZE = 7, 5
LENGTHS = np.array([7, 3])
INNER = LSTMCell(UNITS)
CELLS = {
    "additive": Attention(INNER, SIZE, units=6),
    "additive, attention layer": Attention(INNER, SIZE, attention_features=3, activation="tanh", output_attention=False),
    "multiplicative": Attention(INNER, SIZE, score="multiplicative", scaled=True, attention_features=2),
}
MASK = np.arange(SOURCE) < LENGTHS[:, None]
EVERYTHING, NEVER = np.ones((BATCH, TIME), bool), np.zeros((BATCH, TIME), bool)


def problem(cell, *, batch=BATCH, time=TIME, seed=0):
    """Return a layer, random parameters, memory, inputs, and a carry to start from."""
    layer, draw = RNN(cell), partial(normal, rng=np.random.default_rng(seed))
    params = draw(jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES)))
    memory = draw(np.empty((batch, SOURCE, SIZE)))
    carry = draw(jax.eval_shape(lambda: layer.initial_carry(with_memory(params, memory), (batch,))))
    return layer, params, memory, draw(np.empty((batch, time, FEATURES))), carry
