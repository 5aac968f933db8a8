"""The drop-ins for Keras as a peer: they run in a process of their own, with Keras on JAX."""

import pytest

from jlstm import GRU, LSTM, RNN, Bidirectional, ConvLSTMCell, Stack
from peer_cases import check_faults, check_passes, check_refuses, check_table

pytestmark = pytest.mark.xdist_group("compat_keras")  # one process for all of them


@pytest.mark.table(quick=2)
@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (LSTM(4, reverse=True), {"mask": "holes", "outputs": "last"}),
        (LSTM(4, dropout=0.25, recurrent_dropout=0.5), {"mask": "left", "initial_carry": False}),
        (Stack((Bidirectional(LSTM(4, dropout=0.25), "mul"), GRU(2, reset_after=False))), {"mask": "right", "batches": 3}),
        (Bidirectional(GRU(4, use_bias=False), None), {"mask": "row"}),
        (LSTM(4, unroll="all", activation="relu", recurrent_activation="hard_sigmoid"), {}),
        (LSTM(4), {"dtype": "float32", "mask": "holes"}),
        (LSTM(4), {"dtype": "bfloat16"}),
    ],
    ids=str,
)
def test_it_is_the_same(layer, options):
    """Outputs, states and all gradients equal the float64 textbook, and those of our layers."""
    check_passes("compat_keras", layer, **options)


@pytest.mark.slow
def test_its_table_is_complete():
    """The peer's rows hold every pair of options that it has."""
    check_table("compat_keras", pairs=500)


@pytest.mark.parametrize(
    ("words", "layer", "options"),
    [
        ("leaves unroll=True with a mask to Keras", Bidirectional(LSTM(4, unroll="all")), {"mask": "right"}),
        ("zero_output is compared with Keras's own layers", LSTM(4), {"mask": "right", "zero_output": True}),
        ("no cells", LSTM(4), {"step": True}),
        ("no ConvLSTM", RNN(ConvLSTMCell(2, 3, (6,), padding="same")), {}),
        ("has no peephole=True", LSTM(4, peephole=True), {}),
    ],
    ids=str,
)
def test_what_it_lacks_is_refused(words, layer, options):
    """What it lacks is refused in one sentence."""
    check_refuses("compat_keras", words, layer, **options)


@pytest.mark.slow
def test_its_faults_are_caught(monkeypatch):
    """Swapped gates in the peer's weights change its results, and a gradient of zero counts as the peer's bug."""
    check_faults("compat_keras", monkeypatch)
