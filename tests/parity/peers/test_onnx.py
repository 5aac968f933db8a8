"""ONNX Runtime as a peer: float32, and no gradients."""

import pytest

from jlstm import LSTM, Bidirectional, Stack
from parity import Problem, compare
from peer_cases import check_faults, check_known_bugs, check_passes, check_refuses, check_table

pytestmark = pytest.mark.loose
FORWARD = {"dtype": "float32", "quantities": ("ys", "carry")}


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (LSTM(4, reverse=True), {"mask": "right"} | FORWARD),
        (LSTM(4, activation="relu", use_bias=False), {"batches": 3} | FORWARD),
        (Stack((Bidirectional(LSTM(4)), LSTM(2))), {"mask": "right", "outputs": "last"} | FORWARD),
        (LSTM(4, time_major=True), {"mask": "right"} | FORWARD),
        (LSTM(4), {"mask": "row", "initial_carry": False} | FORWARD),
    ],
    ids=str,
)
def test_it_is_the_same(layer, options):
    """Outputs and states equal ours. It has no gradients."""
    check_passes("onnx", layer, **options)


def test_its_table_is_complete():
    """The peer's rows hold every pair of its options."""
    check_table("onnx", pairs=300)


@pytest.mark.parametrize(
    ("words", "layer", "options"),
    [
        ("is not compared in float64", LSTM(4), {"dtype": "float64"}),
        ("ONNX has no merge='sum'", Bidirectional(LSTM(4), "sum"), {}),
        ("ONNX Runtime has no mask but padding on the right", LSTM(4), {"mask": "left"}),
    ],
    ids=str,
)
def test_what_it_lacks_is_refused(words, layer, options):
    """What it lacks is refused in one sentence."""
    check_refuses("onnx", words, layer, **options)


def test_its_faults_are_caught(monkeypatch):
    """Planted faults are caught."""
    check_faults("onnx", monkeypatch, dtype="float32")


def test_a_length_of_zero_is_its_bug():
    """It returns zeros as last states. The known bug is told from rounding in float32 too."""
    check_known_bugs("onnx", "forgets the initial states at length 0")


def test_what_it_does_not_give_is_said():
    """The comparison says that it gives no gradients."""
    comparison = compare(Problem(LSTM(4)), "onnx")
    assert {name[:2] for name in comparison.not_given} == {"d_"}
    assert [quantity.name for quantity in comparison.quantities] == ["carry.h", "carry.c", "ys"]
