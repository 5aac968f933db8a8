"""JAX's own LSTM as a peer."""

import pytest

from jlstm import GRU, LSTM, Bidirectional, Stack
from peer_cases import check_faults, check_known_bugs, check_passes, check_refuses, check_table

pytestmark = pytest.mark.loose


@pytest.mark.table(quick=3)
@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (LSTM(4), {"mask": "right", "initial_carry": False}),
        (LSTM(4, use_bias=False), {"batches": 3}),
        (Stack((Bidirectional(LSTM(4)), LSTM(2))), {"mask": "right", "outputs": "last"}),
        (Stack((Bidirectional(LSTM(4)), Bidirectional(LSTM(4)))), {"mask": "right"}),
        (Stack((LSTM(4),)), {}),
        (LSTM(4), {"dtype": "float32", "mask": "right"}),
        (LSTM(4), {"dtype": "bfloat16"}),
    ],
    ids=str,
)
def test_it_is_the_same(layer, options):
    """Outputs, states and all gradients equal ours. Equal layers take one call."""
    check_passes("jax_rnn", layer, **options)


def test_its_table_is_complete():
    """The peer's rows hold every pair of its options."""
    check_table("jax_rnn", pairs=100)


@pytest.mark.parametrize(
    ("words", "layer", "options"),
    [
        ("jax.experimental.rnn has no reverse=True", LSTM(4, reverse=True), {}),
        ("jax.experimental.rnn has no activation='relu'", LSTM(4, activation="relu"), {}),
        ("jax.experimental.rnn has no merge='sum'", Bidirectional(LSTM(4), "sum"), {}),
        ("jax.experimental.rnn has no GRUCell", GRU(4), {}),
        ("jax.experimental.rnn has no single step", LSTM(4), {"step": True}),
        ("jax.experimental.rnn has no mask but padding on the right", LSTM(4), {"mask": "left"}),
    ],
    ids=str,
)
def test_what_it_lacks_is_refused(words, layer, options):
    """What it lacks is refused in one sentence."""
    check_refuses("jax_rnn", words, layer, **options)


def test_its_faults_are_caught(monkeypatch):
    """Planted faults are caught."""
    check_faults("jax_rnn", monkeypatch)


@pytest.mark.slow
def test_padding_is_its_bug():
    """It runs over the padding of a sequence of length 0, and NaN there reaches the gradients."""
    check_known_bugs("jax_rnn", "runs over the padding", "lets NaN in padding into gradients")
