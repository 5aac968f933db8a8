"""The drop-in replacements for Flax linen and nnx as peers."""

import pytest

from jlstm import GRU, LSTM, RNN, Bidirectional, ConvLSTMCell, Stack
from parity import peers, table
from peer_cases import check_faults, check_passes, check_table

pytestmark = pytest.mark.loose
CONV = RNN(ConvLSTMCell(3, 2, spatial=(4,), padding="same"))


@pytest.mark.table(quick=4)
@pytest.mark.parametrize(
    ("name", "layer", "options"),
    [
        ("compat_flax_linen", LSTM(4, reverse=True), {"mask": "row"}),
        (
            "compat_flax_linen",
            Stack((Bidirectional(LSTM(4), "mul"), LSTM(2, use_bias=False))),
            {"mask": "right", "outputs": "last"},
        ),
        ("compat_flax_linen", Bidirectional(GRU(4), None), {"batches": 3}),
        ("compat_flax_linen", CONV, {"mask": "row"}),
        ("compat_flax_linen", LSTM(4), {"dtype": "bfloat16"}),
        ("compat_flax_nnx", LSTM(4, reverse=True), {"mask": "row"}),
        ("compat_flax_nnx", LSTM(4, activation="relu", recurrent_activation="hard_sigmoid"), {"mask": "right"}),
        ("compat_flax_nnx", Bidirectional(GRU(4, use_bias=False), None), {"mask": "right", "dtype": "float32"}),
    ],
    ids=str,
)
def test_it_is_the_same(name, layer, options):
    """Outputs, states and all gradients equal the truth, also where Flax itself is wrong, at length 0."""
    check_passes(name, layer, **options)


@pytest.mark.parametrize("name", ["compat_flax_linen", "compat_flax_nnx"])
def test_its_table_is_complete(name):
    """The peer's rows hold every pair of its options, and no case is a known bug."""
    check_table(name, pairs=500)
    assert not any(case.known_bug for case in table.cases(name, peers.load(name)))


@pytest.mark.parametrize("name", ["compat_flax_linen", "compat_flax_nnx"])
def test_its_faults_are_caught(name, monkeypatch):
    """Planted faults are caught."""
    check_faults(name, monkeypatch)
