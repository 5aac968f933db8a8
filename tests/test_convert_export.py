"""Converted layers leave as StableHLO."""

import jax
import numpy as np
import pytest

from jlstm import GRU, LSTM, Bidirectional, Stack
from jlstm.convert import keras as convert
from problems import BATCH, FEATURES, UNITS, problem


@pytest.mark.parametrize("layer", [LSTM(UNITS), Stack((Bidirectional(GRU(UNITS)), LSTM(2)))], ids=repr)
def test_exported_layers_compute_the_same_for_any_batch_and_time(layer):
    """Weights that came as arrays, written by `jax.export`, read again and called, with lengths, in two sizes."""
    known = problem(layer, dtype=np.float32)
    layer, params = convert.load(convert.dump(layer, known.params))
    batch, time = jax.export.symbolic_shape("batch, time")
    like = [jax.ShapeDtypeStruct((batch, time, FEATURES), np.float32), jax.ShapeDtypeStruct((batch,), np.int32)]
    run = jax.jit(lambda params, xs, lengths: layer.apply(params, xs, lengths=lengths))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    exported = jax.export.deserialize(jax.export.export(run)(shapes, *like).serialize())
    assert "stablehlo" in exported.mlir_module()
    for count in (2, 7):
        xs = np.random.default_rng(0).normal(size=(BATCH, count, FEATURES)).astype(np.float32)
        lengths = np.array([count, 1], np.int32)
        expected = run(params, xs, lengths)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), exported.call(params, xs, lengths), expected
        )
