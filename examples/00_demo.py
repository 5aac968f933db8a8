"""Train a digit classifier in JAX, load its weights into TensorFlow, and compare outputs and gradients.

Needs `pip install 'jlstm[examples,parity]'` and no download. Weights and picture are saved in results/demo. The exit status is 1
if the frameworks disagree.
"""

import os
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"  # accelerators multiply in TF32 or bfloat16 by default, too coarse for this comparison

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from jlstm.data import Split, digits
from parity import peers

training = import_module("01_mnist")
Arrays = dict[str, np.ndarray]

LSTM_WEIGHTS = ("lstm.kernel", "lstm.recurrent_kernel", "lstm.bias")
WEIGHTS = (
    "project.kernel",
    "project.bias",
    *LSTM_WEIGHTS,
    "classify.kernel",
    "classify.bias",
)  # in the order of Keras
TOLERANCE = 128 * float(np.finfo(np.float32).eps)  # relative; a sum of 128 products may lose one eps per product


class Row(NamedTuple):
    """Comparison of one quantity. Differences are relative to its largest value.

    Attributes:
        name: Name of the quantity.
        largest: Largest absolute value in float64.
        jlstm_from_keras: Largest difference between jlstm and Keras.
        jlstm_from_truth: Largest difference between jlstm and jlstm in float64.
        keras_from_truth: Largest difference between Keras and jlstm in float64.
    """

    name: str
    largest: float
    jlstm_from_keras: float
    jlstm_from_truth: float
    keras_from_truth: float


def run_jlstm(weights: Arrays, test: Split) -> Arrays:
    """Return the outputs of the network and the gradients of its loss, in the dtype of the weights."""
    params, images = unflatten_dict(weights, sep="."), test.images.astype(weights["lstm.kernel"].dtype)
    logits, (h, c) = training.forward(params, images)
    loss = lambda params, images: training.loss_fn(params, Split(images, test.labels), None, None).losses.mean()  # noqa: E731
    param_grads, image_grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, images)
    weight_grads = flatten_dict(param_grads, sep=".")
    return _by_name(logits, h, c, image_grads, *(weight_grads[name] for name in WEIGHTS))


def run_keras(weights: Arrays, test: Split) -> Arrays:
    """Return the same quantities from a Keras model of the same three layers, on TensorFlow."""
    import keras
    import tensorflow as tf

    inputs = keras.Input(test.images.shape[1:])
    _, h, c = keras.layers.LSTM(128, return_state=True)(keras.layers.Dense(128)(inputs))
    model = keras.Model(inputs, [keras.layers.Dense(10)(h), h, c])
    model.set_weights([weights[name] for name in WEIGHTS])  # the layouts are the same: nothing is permuted or transposed
    images = tf.constant(test.images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits, h, c = model(images)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(test.labels, logits))
    return _by_name(logits, h, c, *tape.gradient(loss, [images, *model.trainable_variables]))


def _by_name(*values) -> Arrays:
    names = ("logits", "last h", "last c", "gradient: images", *(f"gradient: {name}" for name in WEIGHTS))
    return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


def compare(ours: Arrays, theirs: Arrays, truth: Arrays) -> list[Row]:
    """Return the largest differences of every quantity."""
    rows = []
    for name, exact in truth.items():
        pairs, largest = [(ours[name], theirs[name]), (ours[name], exact), (theirs[name], exact)], np.abs(exact).max()
        rows.append(Row(name, largest, *(np.abs(np.float64(values) - reference).max() / largest for values, reference in pairs)))
    return rows


def judge(rows: list[Row], ours: Arrays, theirs: Arrays, labels: np.ndarray) -> tuple[bool, str]:
    """Return whether both frameworks agree, and a sentence about the result.

    They agree if all predictions are equal and all differences are within the tolerance of float32.
    """
    predictions = ours["logits"].argmax(-1)
    same, accuracy = np.sum(predictions == theirs["logits"].argmax(-1)), np.mean(predictions == labels)
    passed = same == len(predictions) and all(np.max(row[3:]) <= TOLERANCE for row in rows)
    gradients = max(row.jlstm_from_keras for row in rows if row.name.startswith("gradient"))
    peer = f"TensorFlow {metadata.version('tensorflow')}"
    return passed, (
        f"jlstm and {peer} {'agree' if passed else 'DISAGREE'}: {same} of {len(predictions)} predictions, "
        f"logits to {rows[0].jlstm_from_keras:.1e} and gradients to {gradients:.1e} of their largest (accuracy {accuracy:.4f})"
    )


def main() -> None:
    """Train, run both frameworks and a float64 reference, and compare them."""
    try:
        peers.load("keras")
    except peers.MissingPeerError as error:
        sys.exit(f"error: {error}")
    out = Path("results/demo")
    training.main(training.MnistOptions(dataset="digits", out=out))
    weights, test = load_file(out / "weights.safetensors"), digits().test
    ours, theirs = run_jlstm(weights, test), run_keras(weights, test)
    with jax.enable_x64(True):
        rows = compare(ours, theirs, run_jlstm({name: value.astype(np.float64) for name, value in weights.items()}, test))
    table = Table("quantity", "largest", "apart", "jlstm off", "Keras off")
    table.title = "Worst differences, as shares of the largest value"
    for row in rows:
        table.add_row(row.name, *(f"{value:.1e}" for value in row[1:]))
    table.caption = f"off: from jlstm in float64; float32 may be {TOLERANCE:.1e} off"
    Console(highlight=False).print(table)
    passed, sentence = judge(rows, ours, theirs, test.labels)
    print(f"demo: {sentence}")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
