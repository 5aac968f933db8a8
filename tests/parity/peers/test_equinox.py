"""Equinox as a peer."""

import pytest

from jlstm import LSTM, Bidirectional, Stack
from peer_cases import check_faults, check_passes, check_refuses, check_table

pytestmark = pytest.mark.loose


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (LSTM(4, reverse=True), {"initial_carry": False, "batches": 3}),
        (LSTM(4, use_bias=False), {"step": True}),
        (Stack((LSTM(4), LSTM(2))), {"outputs": "last"}),
        (LSTM(4), {"dtype": "float32"}),
        (LSTM(4), {"dtype": "bfloat16"}),
    ],
    ids=str,
)
def test_it_is_the_same(layer, options):
    """Outputs and states equal ours, and so do all gradients where it differentiates."""
    check_passes("equinox", layer, **options)


def test_its_table_is_complete():
    """The peer's rows hold every pair of its options."""
    check_table("equinox", pairs=150)


@pytest.mark.parametrize(
    ("words", "layer", "options"),
    [
        ("Equinox has single cells", Bidirectional(LSTM(4)), {}),
        ("Equinox has no activation='relu'", LSTM(4, activation="relu"), {}),
        ("Equinox takes no lengths", LSTM(4), {"mask": "right"}),
    ],
    ids=str,
)
def test_what_it_lacks_is_refused(words, layer, options):
    """What it lacks is refused in one sentence."""
    check_refuses("equinox", words, layer, **options)


def test_its_faults_are_caught(monkeypatch):
    """Planted faults are caught."""
    check_faults("equinox", monkeypatch)
