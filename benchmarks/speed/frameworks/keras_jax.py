"""Keras on JAX: `stateless_call` of `layers.LSTM` under `jax.jit`."""

from typing import Any

import jax
import jax.numpy as jnp
import keras

from benchmarks.speed.frameworks import Setting, keras_models
from benchmarks.speed.frameworks.jitted import Jobs, blocking_call
from benchmarks.speed.points import Point

if keras.backend.backend() != "jax":
    raise ImportError(f"Keras runs on {keras.backend.backend()!r} here, set KERAS_BACKEND=jax")


def build(point: Point, setting: Setting) -> Jobs:
    """Return the jobs: forward, and gradients for the trainable variables."""
    if point.form == "matrix":
        return {}
    keras.utils.set_random_seed(0)
    if point.form == "step":
        cell, states = keras_models.cell(point)
        trainable = [variable.value for variable in cell.trainable_variables]
        fixed = [variable.value for variable in cell.non_trainable_variables]

        def step(trainable: Any, x: jax.Array, states: Any) -> Any:
            return cell.stateless_call(trainable, fixed, x, states)[0]

        return {"step": blocking_call(step, trainable, point.inputs()[0], states)}
    model, inputs = keras_models.sequential(point), keras_models.inputs(point)
    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def outputs(trainable: Any, *inputs: Any, training: bool = False) -> jax.Array:
        return model.stateless_call(trainable, fixed, inputs if len(inputs) > 1 else inputs[0], training=training)[0]

    def loss(trainable: Any, *inputs: Any) -> jax.Array:
        return jnp.sum(outputs(trainable, *inputs, training=True) ** 2)

    return {"forward": blocking_call(outputs, trainable, *inputs), "training": blocking_call(jax.grad(loss), trainable, *inputs)}
