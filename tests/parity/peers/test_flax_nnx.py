"""Flax nnx as a peer."""

import pytest

from jlstm import GRU, LSTM, Bidirectional, Stack
from peer_cases import PeerTests, check_known_bugs

pytestmark = pytest.mark.loose


class TestFlaxNNX(PeerTests):
    """Flax nnx runs forward by OptimizedLSTMCell, and backward by LSTMCell."""

    peer = "flax_nnx"
    pairs = 500
    equal = (
        (LSTM(4, reverse=True), {"mask": "right", "initial_carry": False}),
        (LSTM(4, activation="relu", recurrent_activation="hard_sigmoid"), {"step": True}),
        (Stack((Bidirectional(LSTM(4), "mul"), LSTM(2, use_bias=False))), {"mask": "right", "outputs": "last"}),
        (Bidirectional(GRU(4, use_bias=False), None), {"batches": 3}),
        (LSTM(4), {"dtype": "float32", "mask": "right"}),
        (LSTM(4), {"dtype": "bfloat16"}),
    )
    lacks = (
        ("Flax's Bidirectional runs its first layer forwards", Bidirectional(LSTM(4, reverse=True)), {}),
        ("Flax has no peephole=True", LSTM(4, peephole=True), {}),
        ("Flax nnx.GRUCell has no recurrent_bias", GRU(4), {}),
        ("Flax takes no dropout masks", LSTM(4, dropout=0.5), {}),
        ("Flax has no mask but padding on the right", LSTM(4), {"mask": "holes"}),
    )


@pytest.mark.slow
def test_padding_is_its_bug():
    """It runs over the padding of a sequence of length 0, and NaN there reaches the gradients."""
    check_known_bugs("flax_nnx", "runs over the padding", "lets NaN in padding into gradients")
