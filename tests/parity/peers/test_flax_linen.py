"""Flax linen as a peer."""

import pytest

from jlstm import LSTM, Bidirectional, Stack
from peer_cases import check_faults, check_known_bugs, check_passes, check_refuses, check_table

pytestmark = pytest.mark.loose


@pytest.mark.table(quick=3)
@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (LSTM(4, reverse=True), {"mask": "right", "initial_carry": False}),
        (LSTM(4, activation="relu", recurrent_activation="hard_sigmoid"), {"step": True}),
        (Stack((Bidirectional(LSTM(4), "mul"), LSTM(2, use_bias=False))), {"mask": "right", "outputs": "last"}),
        (Bidirectional(LSTM(4), None), {"batches": 3}),
        (LSTM(4), {"dtype": "float32", "mask": "right"}),
        (LSTM(4), {"dtype": "bfloat16"}),
    ],
    ids=str,
)
def test_it_is_the_same(layer, options):
    """Outputs and states equal ours, and so do all gradients where it differentiates."""
    check_passes("flax_linen", layer, **options)


def test_its_table_is_complete():
    """The peer's rows hold every pair of its options."""
    check_table("flax_linen", pairs=500)


@pytest.mark.parametrize(
    ("words", "layer", "options"),
    [
        ("Flax's Bidirectional runs its first layer forwards", Bidirectional(LSTM(4, reverse=True)), {}),
        ("Flax has no peephole=True", LSTM(4, peephole=True), {}),
        ("Flax takes no dropout masks", LSTM(4, dropout=0.5), {}),
        ("Flax has no mask but padding on the right", LSTM(4), {"mask": "holes"}),
    ],
    ids=str,
)
def test_what_it_lacks_is_refused(words, layer, options):
    """What it lacks is refused in one sentence."""
    check_refuses("flax_linen", words, layer, **options)


def test_its_faults_are_caught(monkeypatch):
    """Planted faults are caught."""
    check_faults("flax_linen", monkeypatch)


@pytest.mark.slow
def test_padding_is_its_bug():
    """It runs over the padding of a sequence of length 0, and NaN there reaches the gradients."""
    check_known_bugs("flax_linen", "runs over the padding", "lets NaN in padding into gradients")
