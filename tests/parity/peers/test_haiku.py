"""Haiku as a peer."""

import pytest

from jlstm import LSTM, Bidirectional, Stack
from peer_cases import PeerTests

pytestmark = pytest.mark.loose


class TestHaiku(PeerTests):
    """Haiku runs forwards, without padding."""

    peer = "haiku"
    pairs = 150
    equal = (
        (LSTM(4), {"initial_carry": False, "batches": 3}),
        (LSTM(4, use_bias=False), {"step": True}),
        (Stack((LSTM(4), LSTM(2))), {"outputs": "last"}),
        (LSTM(4), {"dtype": "float32"}),
        (LSTM(4), {"dtype": "bfloat16"}),
    )
    lacks = (
        ("run forwards only", LSTM(4, reverse=True), {}),
        ("run forwards only", Bidirectional(LSTM(4)), {}),
        ("Haiku has no activation='relu'", LSTM(4, activation="relu"), {}),
        ("Haiku takes no lengths", LSTM(4), {"mask": "right"}),
    )
