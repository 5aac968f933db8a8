"""Converted layers can be exported as StableHLO, as a TensorFlow SavedModel and as TensorFlow Lite."""

import re

import jax
import numpy as np
import pytest

from jlstm import GRU, LSTM, Bidirectional, Stack
from jlstm.convert import keras as convert
from problems import BATCH, FEATURES, UNITS, small_problem

pytestmark = pytest.mark.no_cover

CLOSE = {"rtol": 1e-6, "atol": 1e-6}  # other code for the same float32 formulas
LAYERS = [
    LSTM(UNITS),
    LSTM(UNITS, backend="cpu"),
    GRU(UNITS),
    Bidirectional(LSTM(UNITS), "sum"),
    Stack((Bidirectional(GRU(UNITS)), LSTM(2))),
]
SIZES = [(BATCH, 2), (BATCH + 2, 7)]


def converted(layer):
    """Return the layer and parameters of converted arrays."""
    return convert.load(convert.dump(layer, small_problem(layer, dtype=np.float32).params))


def inputs(batch, time):
    """Return sequences, of which one is shorter, with their lengths."""
    xs = np.random.default_rng(0).normal(size=(batch, time, FEATURES)).astype(np.float32)
    return xs, np.array([1] + [time] * (batch - 1), np.int32)


def same(results, expected):
    """Assert that all outputs and carries are equal, leaf by leaf: TensorFlow returns other tree types."""
    results, expected = jax.tree.leaves(results), jax.tree.leaves(expected)
    for result, array in zip(results, expected, strict=True):
        np.testing.assert_allclose(np.asarray(result), array, **CLOSE)


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_exported_layers_compute_the_same_for_any_batch_and_time(layer):
    """Written by `jax.export`, read again and called, with lengths, in two sizes; on three platforms, so without our kernel."""
    _, params = converted(layer)
    batch, time = jax.export.symbolic_shape("batch, time")
    like = [jax.ShapeDtypeStruct((batch, time, FEATURES), np.float32), jax.ShapeDtypeStruct((batch,), np.int32)]
    run = jax.jit(lambda params, xs, lengths: layer.apply(params, xs, lengths=lengths))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    program_bytes = jax.export.export(run, platforms=("cpu", "cuda", "tpu"))(shapes, *like).serialize()
    exported = jax.export.deserialize(program_bytes)
    assert set(re.findall(r"stablehlo\.custom_call @(\w+)", exported.mlir_module())) == {"shape_assertion"}
    for size in SIZES:
        xs, lengths = inputs(*size)
        same(exported.call(params, xs, lengths), run(params, xs, lengths))


@pytest.mark.xdist_group("tensorflow")
@pytest.mark.parametrize("layer", [LSTM(UNITS), Bidirectional(GRU(UNITS))], ids=repr)
def test_saved_models_compute_the_same_for_any_batch_and_time(tmp_path, layer):
    """Written and read by TensorFlow, which runs what `jax2tf` made."""
    jax2tf, tf = pytest.importorskip("jax.experimental.jax2tf"), pytest.importorskip("tensorflow")
    layer, params = converted(layer)

    def run(xs, lengths):
        return layer.apply(params, xs, lengths=lengths)

    tf_function = jax2tf.convert(run, polymorphic_shapes=[f"(batch, time, {FEATURES})", "(batch,)"], with_gradient=False)
    signature = [tf.TensorSpec((None, None, FEATURES), tf.float32), tf.TensorSpec((None,), tf.int32)]
    module = tf.Module()
    module.run = tf.function(tf_function, autograph=False, input_signature=signature)
    tf.saved_model.save(module, str(tmp_path))
    again = tf.saved_model.load(str(tmp_path))
    for size in SIZES:
        same(again.run(*inputs(*size)), run(*inputs(*size)))


@pytest.mark.xdist_group("tensorflow")
@pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize("layer", [LSTM(UNITS), Bidirectional(GRU(UNITS))], ids=repr)
def test_tensorflow_lite_computes_the_same(layer):
    """TensorFlow Lite computes the same with its built-in operations, in one size."""
    jax2tf, tf = pytest.importorskip("jax.experimental.jax2tf"), pytest.importorskip("tensorflow")
    layer, params = converted(layer)
    xs, lengths = inputs(BATCH, 7)

    def run(xs, lengths):
        return layer.apply(params, xs, lengths=lengths)[1]

    tf_function = tf.function(jax2tf.convert(run, with_gradient=False), autograph=False)
    concrete = tf_function.get_concrete_function(tf.TensorSpec(xs.shape, tf.float32), tf.TensorSpec(lengths.shape, tf.int32))
    content = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf_function).convert()
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], xs if len(detail["shape"]) == 3 else lengths)
    interpreter.invoke()
    same(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), run(xs, lengths))
