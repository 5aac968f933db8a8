"""ONNX Runtime as a peer: float32, and no gradients."""

import pytest

from jlstm import LSTM, Bidirectional, Stack
from parity import Problem, compare
from peer_cases import PeerTests, check_known_bugs

pytestmark = pytest.mark.loose


class TestONNX(PeerTests):
    """ONNX Runtime computes outputs and states, and no gradients."""

    peer = "onnx"
    pairs = 300
    equal = (
        (LSTM(4, reverse=True), {"mask": "right"}),
        (LSTM(4, activation="relu", use_bias=False), {"batches": 3}),
        (Stack((Bidirectional(LSTM(4)), LSTM(2))), {"mask": "right", "outputs": "last"}),
        (LSTM(4, time_major=True), {"mask": "right"}),
        (LSTM(4), {"mask": "row", "initial_carry": False}),
    )
    lacks = (
        ("is not compared in float64", LSTM(4), {"dtype": "float64"}),
        ("ONNX has no merge='sum'", Bidirectional(LSTM(4), "sum"), {}),
        ("ONNX Runtime has no mask but padding on the right", LSTM(4), {"mask": "left"}),
    )
    dtype = "float32"
    quantities = ("ys", "carry")


def test_a_length_of_zero_is_its_bug():
    """It returns zeros as last states. The known bug is told from rounding in float32 too."""
    check_known_bugs("onnx", "forgets the initial states at length 0")


def test_what_it_does_not_give_is_said():
    """The comparison says that it gives no gradients."""
    comparison = compare(Problem(LSTM(4)), "onnx")
    assert {name[:2] for name in comparison.not_given} == {"d_"}
    assert [quantity.name for quantity in comparison.quantities] == ["carry.h", "carry.c", "ys"]
