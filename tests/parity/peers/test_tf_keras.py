"""tf-keras as a peer: Keras 2, which has nearly all that Keras 3 has."""

import pytest

from jlstm import GRU, LSTM, RNN, Bidirectional, ConvLSTMCell, Stack
from parity import Problem, compare, peers, table
from peer_cases import ALL, PeerTests, check_known_bugs, check_passes

pytestmark = pytest.mark.xdist_group("tensorflow")


class TestTFKeras(PeerTests):
    """tf-keras has the options of Keras 3."""

    peer = "tf_keras"
    pairs = 900
    equal = (
        (LSTM(4), {"mask": "holes", "zero_output": True, "outputs": "last"}),
        (LSTM(4, reverse=True, use_bias=False), {"mask": "right", "batches": 3}),
        (LSTM(4, activation="relu"), {"step": True, "initial_carry": False}),
        (LSTM(4, dropout=0.25, recurrent_dropout=0.5, unroll="all"), {}),
        (Bidirectional(LSTM(4, dropout=0.25), "mul"), {"mask": "left", "zero_output": True}),
        (Stack((Bidirectional(LSTM(4, activation="hard_sigmoid"), "ave"), LSTM(2))), {}),
        (Stack((GRU(4, reset_after=False), GRU(2))), {"mask": "right"}),
        (GRU(4), {"step": True, "initial_carry": False}),
        (RNN(ConvLSTMCell(2, 3, (6,), padding="same"), reverse=True), {}),
        (LSTM(4), {"dtype": "float32", "mask": "row"}),
    )
    lacks = (
        ("tf-keras has no peephole=True", LSTM(4, peephole=True), {}),
        ("tf-keras takes dropout masks of ours only", GRU(4, dropout=0.5), {}),
        ("tf-keras has Bidirectional only around a single layer", Bidirectional(Stack((LSTM(4), LSTM(2)))), {}),
    )


@pytest.mark.parametrize("name", ["hard_sigmoid", "hard_sigmoid_0.2"])
def test_both_hard_sigmoids_are_asked_for(name):
    """It runs its own, 0.2 x + 0.5, and that of Keras 3, which it is given."""
    check_passes("tf_keras", LSTM(4, recurrent_activation=name))


def test_its_initial_bias_is_ours():
    """The initial forget bias is one, as in ours."""
    check_passes("tf_keras", LSTM(4), weights="initial", quantities=(*ALL, "initial_bias"))


def test_no_option_of_keras_3_is_left_out():
    """Its rows have the options of Keras 3."""
    assert not table.restricted(peers.load("tf_keras"))


def test_its_bugs_are_known():
    """It masks unrolled backward runs in forward order, and NaN in padding reaches the gradients."""
    check_known_bugs("tf_keras", "unroll=True", "lets NaN in padding into gradients")
    assert compare(Problem(LSTM(4, reverse=True, unroll="all"), mask="right", dtype="float64"), "tf_keras").verdict == "pass"
