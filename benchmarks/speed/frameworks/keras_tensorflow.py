"""Keras on TensorFlow: `layers.LSTM` in a `tf.function`. The variant "jit_compile" has XLA compile it."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from benchmarks.speed.frameworks import Setting, keras_models
from benchmarks.speed.points import Point

if keras.backend.backend() != "tensorflow":
    raise ImportError(f"Keras runs on {keras.backend.backend()!r} here, set KERAS_BACKEND=tensorflow")


def build(point: Point, setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the jobs: forward, and gradients with a tape. A call returns when TensorFlow has computed its result."""
    if point.form == "matrix":
        return {}
    if tf.config.threading.get_intra_op_parallelism_threads() != setting.threads:  # TensorFlow refuses to set it again
        tf.config.threading.set_intra_op_parallelism_threads(setting.threads)
        tf.config.threading.set_inter_op_parallelism_threads(setting.threads)
    keras.utils.set_random_seed(0)
    compiled = tf.function(jit_compile=setting.variant == "jit_compile")
    if point.form == "step":
        cell, states = keras_models.cell(point)
        arguments = [tf.constant(point.inputs()[0]), [tf.constant(state) for state in states]]
        return {"step": _blocking_call(compiled(lambda x, states: cell(x, states)), arguments)}
    model, inputs = keras_models.sequential(point), [tf.constant(array) for array in keras_models.inputs(point)]

    def outputs(*inputs: Any) -> Any:
        return model(inputs if len(inputs) > 1 else inputs[0], training=False)

    def training(*inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(inputs if len(inputs) > 1 else inputs[0], training=True) ** 2)
        return tape.gradient(loss, model.trainable_variables)

    return {"forward": _blocking_call(compiled(outputs), inputs), "training": _blocking_call(compiled(training), inputs)}


def _blocking_call(function: Callable[..., Any], arguments: list[Any]) -> Callable[[], Any]:
    """Return a callable that calls the function and waits for its result."""

    def call() -> Any:
        result = function(*arguments)
        for leaf in tf.nest.flatten(result):
            leaf._numpy()  # waits for the value; on a CPU it copies nothing
        return result

    return call
