"""PyTorch as a peer."""

import pytest

from jlstm import LSTM, Bidirectional, Stack
from parity import compare, peers, table
from peer_cases import PeerTests

pytestmark = pytest.mark.loose


class TestTorch(PeerTests):
    """PyTorch has packed sequences, cells, directions and stacks, with gradients by autograd."""

    peer = "torch"
    pairs = 200
    equal = (
        (LSTM(4), {"mask": "right", "initial_carry": False}),
        (LSTM(4, use_bias=False), {"batches": 3}),
        (LSTM(4), {"step": True}),
        (Bidirectional(LSTM(4)), {"mask": "right", "outputs": "last"}),
        (Stack((Bidirectional(LSTM(4)), LSTM(2))), {"mask": "right"}),
        (Stack((Bidirectional(LSTM(4)), Bidirectional(LSTM(4)))), {"mask": "right", "outputs": "last"}),
        (Stack((LSTM(4), LSTM(4))), {"step": True}),
        (LSTM(4), {"dtype": "float32", "mask": "right"}),
    )
    lacks = (
        ("PyTorch is not compared in bfloat16", LSTM(4), {"dtype": "bfloat16"}),
        ("PyTorch has no reverse=True", LSTM(4, reverse=True), {}),
        ("PyTorch has no activation='relu'", LSTM(4, activation="relu"), {}),
        ("PyTorch has no merge='sum'", Bidirectional(LSTM(4), "sum"), {}),
        ("PyTorch takes no dropout masks", LSTM(4, dropout=0.5), {}),
        ("PyTorch draws initial weights of its own", LSTM(4), {"weights": "initial"}),
        ("PyTorch has no zero_output", LSTM(4), {"zero_output": True}),
        ("PyTorch has no mask but padding on the right", LSTM(4), {"mask": "left"}),
        ("PyTorch takes no sequence of length 0", LSTM(4), {"mask": "right", "batches": 3}),
    )


def test_nan_in_padding_reaches_nothing():
    """Packed sequences have no padding, so gradients stay right where those of other peers are lost."""
    (case,) = (case for case in table.cases("torch", peers.load("torch")) if "padding-nan" in case.name)
    assert not case.known_bug
    assert compare(case.problem, "torch").verdict == "pass"
