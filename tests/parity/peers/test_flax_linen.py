"""Flax linen as a peer."""

import pytest

from jlstm import LSTM, Bidirectional, Stack
from peer_cases import PeerTests, check_known_bugs

pytestmark = pytest.mark.loose


class TestFlaxLinen(PeerTests):
    """Flax linen has cells, `RNN` and `Bidirectional`."""

    peer = "flax_linen"
    pairs = 500
    equal = (
        (LSTM(4, reverse=True), {"mask": "right", "initial_carry": False}),
        (LSTM(4, activation="relu", recurrent_activation="hard_sigmoid"), {"step": True}),
        (Stack((Bidirectional(LSTM(4), "mul"), LSTM(2, use_bias=False))), {"mask": "right", "outputs": "last"}),
        (Bidirectional(LSTM(4), None), {"batches": 3}),
        (LSTM(4), {"dtype": "float32", "mask": "right"}),
        (LSTM(4), {"dtype": "bfloat16"}),
    )
    lacks = (
        ("Flax's Bidirectional runs its first layer forwards", Bidirectional(LSTM(4, reverse=True)), {}),
        ("Flax has no peephole=True", LSTM(4, peephole=True), {}),
        ("Flax takes no dropout masks", LSTM(4, dropout=0.5), {}),
        ("Flax has no mask but padding on the right", LSTM(4), {"mask": "holes"}),
    )


@pytest.mark.slow
def test_padding_is_its_bug():
    """It runs over the padding of a sequence of length 0, and NaN there reaches the gradients."""
    check_known_bugs("flax_linen", "runs over the padding", "lets NaN in padding into gradients")
