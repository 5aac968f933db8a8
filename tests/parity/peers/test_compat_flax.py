"""The replacements for Flax linen and nnx as peers."""

import pytest

from jlstm import GRU, LSTM, RNN, Bidirectional, ConvLSTMCell, Stack
from parity import peers, table
from peer_cases import PeerTests

pytestmark = pytest.mark.loose
CONV = RNN(ConvLSTMCell(3, 2, spatial=(4,), padding="same"))


class CompatTests(PeerTests):
    """The replacements lack what Flax lacks, but have none of its bugs."""

    pairs = 600
    lacks = (("Flax has no mask but padding on the right", LSTM(4), {"mask": "holes"}),)

    @pytest.mark.slow  # the options are those of Flax, whose tests are quick
    def test_its_table_is_complete(self):
        """The rows hold every pair of options. NaN in padding, and a sequence of length 0, are cases like others."""
        super().test_its_table_is_complete()
        cases = list(table.cases(self.peer, peers.load(self.peer)))
        assert not any(case.known_bug for case in cases)
        for words in ("padding-nan", "mask-row"):
            assert any(words in case.name for case in cases)


class TestCompatFlaxLinen(CompatTests):
    """Flax's own loop runs the ConvLSTM, with our masks."""

    peer = "compat_flax_linen"
    equal = (
        (LSTM(4, reverse=True), {"mask": "row"}),
        (Stack((Bidirectional(LSTM(4), "mul"), LSTM(2, use_bias=False))), {"mask": "right", "outputs": "last"}),
        (CONV, {"mask": "row"}),
        (Bidirectional(GRU(4), None), {"batches": 3}),
        (LSTM(4), {"dtype": "bfloat16"}),
    )


class TestCompatFlaxNNX(CompatTests):
    """nnx runs forward by OptimizedLSTMCell, and backward by LSTMCell."""

    peer = "compat_flax_nnx"
    equal = (
        (LSTM(4, reverse=True), {"mask": "row"}),
        (LSTM(4, activation="relu", recurrent_activation="hard_sigmoid"), {"mask": "right", "initial_carry": False}),
        (Bidirectional(GRU(4, use_bias=False), None), {"mask": "right", "dtype": "float32"}),
    )
