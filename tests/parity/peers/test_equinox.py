"""Equinox as a peer."""

import pytest

from jlstm import LSTM, Bidirectional, Stack
from peer_cases import PeerTests

pytestmark = pytest.mark.loose


class TestEquinox(PeerTests):
    """Equinox has single cells, which run in a loop."""

    peer = "equinox"
    pairs = 150
    equal = (
        (LSTM(4, reverse=True), {"initial_carry": False, "batches": 3}),
        (LSTM(4, use_bias=False), {"step": True}),
        (Stack((LSTM(4), LSTM(2))), {"outputs": "last"}),
        (LSTM(4), {"dtype": "float32"}),
        (LSTM(4), {"dtype": "bfloat16"}),
    )
    lacks = (
        ("Equinox has single cells", Bidirectional(LSTM(4)), {}),
        ("Equinox has no activation='relu'", LSTM(4, activation="relu"), {}),
        ("Equinox takes no lengths", LSTM(4), {"mask": "right"}),
    )
