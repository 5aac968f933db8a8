"""The summary of a model shows every part with the right count, in plain text."""

import re

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jlstm.nnx
from jlstm import LSTM, Bidirectional, Stack
from jlstm.models import LanguageModel, SequenceClassifier, summary

TOKENS = jax.ShapeDtypeStruct((128, 300), "int32")
MODELS = {
    "IMDB": (SequenceClassifier(5_000, 15, LSTM(10), dropout=0.2, masked=True), 5_000 * 15 + 4 * 10 * (15 + 10 + 1) + 11),
    "nested": (
        SequenceClassifier(50, 6, Stack((Bidirectional(LSTM(4)), LSTM(5))), classes=3),
        50 * 6 + 2 * 4 * 4 * (6 + 4 + 1) + 4 * 5 * (8 + 5 + 1) + 3 * (5 + 1),
    ),
    "language": (LanguageModel(100, 8), 2 * 100 * 8 + 100 + 2 * 4 * 8 * (8 + 8 + 1)),
    "tied": (LanguageModel(100, 8, tied=True), 100 * 8 + 100 + 2 * 4 * 8 * (8 + 8 + 1)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_total_is_the_closed_form(name):
    """The total equals the embeddings, kernels and biases, counted by hand."""
    model, total = MODELS[name]
    assert f"Total Parameters: {total:,} (" in summary(model, TOKENS)


def test_the_imdb_model_part_by_part():
    """Name, output shape and count of each part stand in one row."""
    table = summary(MODELS["IMDB"][0], TOKENS)
    for part, shape, count in (
        ("embed", "float32[128,300,15]", "75,000"),
        ("layer_0", "float32[128,300,10]", "1,040"),
        ("dropout_0", "float32[128,10]", ""),
        ("head", "float32[128,1]", "11 (44 B)"),
    ):
        row = next(row for row in table.split("├") if re.search(rf"│ {part} ", row))
        assert shape in row
        assert count in row


@pytest.mark.parametrize("name", MODELS)
def test_the_table_is_plain_text_of_at_most_100_columns(name, monkeypatch):
    """It has no escape codes, even if the environment asks for colors, and no cut-off names."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    table = summary(MODELS[name][0], TOKENS)
    assert "\x1b" not in table
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 100
    assert table == table.strip("\n")
    assert not any(line != line.rstrip() for line in table.splitlines())


def test_shapes_and_arrays_give_the_same_table():
    """Arguments may be passed by name, and the module may be a user's."""
    model = MODELS["IMDB"][0]
    assert summary(model, np.zeros((128, 300), np.int32)) == summary(model, TOKENS)
    assert "Total Parameters: 12 (" in summary(nn.Dense(3), inputs=jax.ShapeDtypeStruct((2, 3), "float32"))


@pytest.mark.loose
def test_layers_and_nnx_modules_have_one_too():
    """Their totals equal the closed form. Other objects are refused in one sentence."""
    xs = jax.ShapeDtypeStruct((2, 5, 3), "float32")
    total = f"Total Parameters: {4 * 4 * (3 + 4 + 1)} ("
    assert total in summary(LSTM(4), xs)
    assert total in summary(jlstm.nnx.Outputs(LSTM(4), 3, rngs=nnx.Rngs(0)), xs)
    with pytest.raises(TypeError, match="module must be a Flax module or a layer such as LSTM"):
        summary(3, xs)
