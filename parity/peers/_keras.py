"""What the peers that run Keras on TensorFlow share: layers run eagerly, with a gradient tape."""

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # Eigen's kernels: the same rounding on every processor

import jax
import numpy as np
import tensorflow as tf

from parity.peers._exchange import carry_like, nan_in_padding
from parity.peers._keras_layers import Framework, keras_cell, keras_layers, load, ours, run_layers
from parity.problem import Problem
from parity.quantities import Quantities, biases, named
from parity.values import Values

tf.config.set_visible_devices([], "GPU")  # TensorFlow would take the GPU's whole memory, and its matmuls round to TF32


def known_bug(name: str, problem: Problem) -> str:
    """Return what TensorFlow's gradients get wrong in padding; "" if nothing."""
    bug = f"{name} lets NaN in padding into gradients (https://github.com/tensorflow/tensorflow/issues/6209)"
    return bug if nan_in_padding(problem) else ""


def run(framework: Framework, problem: Problem, values: Values) -> Quantities:
    """Compute all quantities of the problem, eagerly, with a gradient tape.

    Args:
        framework: the version of Keras.
        problem: what to compute.
        values: its numbers.

    Returns:
        The quantities by name, as float64 arrays.
    """
    tensors = jax.tree.map(lambda leaf: tf.cast(tf.constant(leaf), problem.dtype), values._replace(mask=None))
    with tf.GradientTape() as tape:
        xs, carry = jax.tree.map(tf.identity, (tensors.xs, tensors.carry))
        # The tape watches variables by itself; inputs and carry are no variables.
        tape.watch([xs, *jax.tree.leaves(carry)])
        if problem.step:
            layer = keras_cell(framework, problem.layer, problem)
            initial, variables = load(problem.layer, [layer], values.params, len(values.xs))
            y, state = layer(xs[:, 0], list(carry or jax.tree.leaves(framework.begin(layer, xs))))
            ys, last_carry = y[:, None], carry_like(problem.layer)(*state)
        else:
            layers = keras_layers(framework, problem)
            initial, variables = load(problem.layer, layers, values.params, len(values.xs))
            ys, last_carry = _forward(framework, problem, values, layers, xs, carry, tensors.dropout_masks)
    leaves, structure = jax.tree.flatten((jax.tree.map(_tensor, variables), xs, carry))
    # One backward pass: the cotangents of all results are drawn, so every gradient depends on each of them.
    targets = jax.tree.leaves((ys, last_carry))
    cotangents = jax.tree.leaves((tensors.d_ys, tensors.d_carry))
    # Where nothing depends on a leaf, TensorFlow returns None by default, and JAX zeros.
    gradients = tape.gradient(targets, leaves, cotangents, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    d_weights, d_xs, d_carry = jax.tree.unflatten(structure, gradients)
    d_params = jax.tree.map(ours, d_weights, is_leaf=lambda tree: isinstance(tree, dict) and "kernel" in tree)
    results = (ys, last_carry, d_params, d_xs, d_carry, biases(initial) if problem.weights == "initial" else None)
    return named(*jax.tree.map(_numpy, results))


def _forward(
    framework: Framework, problem: Problem, values: Values, layers: list[Any], xs: Any, carry: Any, dropout_masks: Any
) -> tuple[Any, Any]:
    ys = []
    masks = [None] * problem.batches if values.mask is None else tf.split(values.mask, problem.batches, 1)
    for k, (x, mask) in enumerate(zip(tf.split(xs, problem.batches, 1), masks, strict=True)):
        # Later batches start from the states that a layer with stateful=True keeps itself.
        initial = carry if k == 0 else None
        y, last_carry = run_layers(framework, problem.layer, layers, x, initial, mask, dropout_masks, _reversed)
        if mask is not None and problem.outputs == "all":  # Keras may repeat the previous output where a step does not count
            y = jax.tree.map(lambda leaf, mask=mask: tf.where(_broadcast_mask(mask, leaf), leaf, tf.zeros_like(leaf)), y)
        ys.append(y)
    return jax.tree.map(lambda *leaves: tf.concat(leaves, 1), *ys), last_carry


def _reversed(ys: Any) -> Any:
    return tf.reverse(ys, [1])


def _broadcast_mask(mask: Any, ys: Any) -> Any:
    return tf.reshape(mask, (*mask.shape, *[1] * (len(ys.shape) - 2)))


def _tensor(variable: Any) -> Any:
    """Return the TensorFlow variable, which Keras 3 wraps in a variable class of its own."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def _numpy(tensor: Any) -> np.ndarray:
    return tf.cast(tf.convert_to_tensor(tensor), tf.float64).numpy()
