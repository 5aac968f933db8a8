"""JAX's own LSTM as a peer."""

import pytest

from jlstm import GRU, LSTM, Bidirectional, Stack
from peer_cases import PeerTests, check_known_bugs

pytestmark = pytest.mark.loose


class TestJAXRNN(PeerTests):
    """`jax.experimental.rnn` runs a stack of equal layers in one call."""

    peer = "jax_rnn"
    pairs = 100
    equal = (
        (LSTM(4), {"mask": "right", "initial_carry": False}),
        (LSTM(4, use_bias=False), {"batches": 3}),
        (Stack((Bidirectional(LSTM(4)), LSTM(2))), {"mask": "right", "outputs": "last"}),
        (Stack((Bidirectional(LSTM(4)), Bidirectional(LSTM(4)))), {"mask": "right"}),
        (Stack((LSTM(4),)), {}),
        (LSTM(4), {"dtype": "float32", "mask": "right"}),
        (LSTM(4), {"dtype": "bfloat16"}),
    )
    lacks = (
        ("jax.experimental.rnn has no reverse=True", LSTM(4, reverse=True), {}),
        ("jax.experimental.rnn has no activation='relu'", LSTM(4, activation="relu"), {}),
        ("jax.experimental.rnn has no merge='sum'", Bidirectional(LSTM(4), "sum"), {}),
        ("jax.experimental.rnn has no GRUCell", GRU(4), {}),
        ("jax.experimental.rnn has no single step", LSTM(4), {"step": True}),
        ("jax.experimental.rnn has no mask but padding on the right", LSTM(4), {"mask": "left"}),
    )


@pytest.mark.slow
def test_padding_is_its_bug():
    """It runs over the padding of a sequence of length 0, and NaN there reaches the gradients."""
    check_known_bugs("jax_rnn", "runs over the padding", "lets NaN in padding into gradients")
