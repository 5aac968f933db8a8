"""TensorFlow 1's cells as a peer."""

import pytest

from jlstm import LSTM, RNN, Bidirectional, GRUCell, LSTMCell, Stack
from jlstm.cells import Dropout, Residual
from peer_cases import PeerTests, check_known_bugs

pytestmark = [pytest.mark.xdist_group("tensorflow"), pytest.mark.filterwarnings("ignore:`tf.nn.rnn_cell:UserWarning")]


class TestTF1(PeerTests):
    """TensorFlow 1's cells run in `dynamic_rnn`."""

    peer = "tf1"
    pairs = 300
    equal = (
        (LSTM(4), {"mask": "row", "outputs": "last", "initial_carry": False}),
        (LSTM(4, use_bias=False), {"step": True}),
        (Bidirectional(LSTM(4), "mul"), {"mask": "right", "batches": 3}),
        (Bidirectional(LSTM(4), None), {"mask": "right", "outputs": "last"}),
        (Stack((LSTM(4), LSTM(5, activation="softsign"))), {"mask": "right"}),
        (LSTM(4), {"mask": "row"}),
        (RNN(Residual(LSTMCell(3, peephole=True))), {"mask": "right"}),
        (RNN(Dropout(LSTMCell(4), inputs=0.25, outputs=0.375, state=0.5, variational=True)), {"mask": "right"}),
        (RNN(Dropout(LSTMCell(4), state=0.5, variational=True)), {"dtype": "float32", "initial_carry": False}),
        (LSTM(4), {"dtype": "float32", "mask": "right"}),
    )
    lacks = (
        ("dynamic_rnn runs forwards", LSTM(4, reverse=True), {}),
        ("MultiRNNCell has cells", Stack((Bidirectional(LSTM(4)), LSTM(2))), {}),
        ("wrapped cells are compared over whole sequences", RNN(Residual(LSTMCell(3))), {"outputs": "last"}),
        ("TensorFlow 1 takes no dropout masks of ours", RNN(Dropout(LSTMCell(3), inputs=0.5)), {}),
        ("TensorFlow 1 has no Residual", RNN(Residual(GRUCell(3))), {}),
        ("TensorFlow 1 is not compared in bfloat16", LSTM(4), {"dtype": "bfloat16"}),
        ("TensorFlow 1 has no recurrent_activation='relu'", LSTM(4, recurrent_activation="relu"), {}),
        ("TensorFlow 1 has no mask but padding on the right", LSTM(4), {"mask": "left"}),
    )


def test_nan_in_padding_is_its_bug():
    """It selects results after every step, so gradients are 0 times NaN."""
    check_known_bugs("tf1", "lets NaN in padding into gradients")
