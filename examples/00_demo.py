"""Train on real digits in JAX, load the weights into TensorFlow, and show that both compute the same thing.

No download. Needs `pip install 'jlstm[examples,parity]'`. Weights and picture go to results/demo; exit status 1 if they disagree.
"""

import os
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"  # the default precision of accelerators (TF32, bfloat16) would blur the comparison

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

OF_LSTM = ("lstm.kernel", "lstm.recurrent_kernel", "lstm.bias")
WEIGHTS = ("project.kernel", "project.bias", *OF_LSTM, "classify.kernel", "classify.bias")  # in Keras' order
TOLERANCE = 128 * float(np.finfo(np.float32).eps)  # of the largest value: a sum of 128 products may lose one eps with each


class Row(NamedTuple):
    """One quantity: its largest value and, as shares of it, the worst differences of jlstm, TensorFlow and the truth."""

    name: str
    largest: float
    jlstm_from_keras: float
    jlstm_from_truth: float
    keras_from_truth: float


def run_jlstm(weights: Arrays, test: Split) -> Arrays:
    """Outputs of the network and gradients of its loss, in the dtype of the weights."""
    params, images = unflatten_dict(weights, sep="."), test.images.astype(weights["lstm.kernel"].dtype)
    logits, (h, c) = training.forward(params, images)
    loss = lambda params, images: training.loss_fn(params, Split(images, test.labels), None, None).losses.mean()  # noqa: E731
    of_params, of_images = jax.grad(loss, argnums=(0, 1))(params, images)
    of_weights = flatten_dict(of_params, sep=".")
    return _by_name(logits, h, c, of_images, *(of_weights[name] for name in WEIGHTS))


def run_keras(weights: Arrays, test: Split) -> Arrays:
    """The same, from a Keras model of the same three layers on TensorFlow."""
    import keras
    import tensorflow as tf

    inputs = keras.Input(test.images.shape[1:])
    _, h, c = keras.layers.LSTM(128, return_state=True)(keras.layers.Dense(128)(inputs))
    model = keras.Model(inputs, [keras.layers.Dense(10)(h), h, c])
    model.set_weights([weights[name] for name in WEIGHTS])  # as they are: nothing is permuted or transposed
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
    """Measure the worst differences."""
    rows = []
    for name, true in truth.items():
        pairs, largest = [(ours[name], theirs[name]), (ours[name], true), (theirs[name], true)], np.abs(true).max()
        rows.append(Row(name, largest, *(np.abs(np.float64(one) - other).max() / largest for one, other in pairs)))
    return rows


def judge(rows: list[Row], ours: Arrays, theirs: Arrays, labels: np.ndarray) -> tuple[bool, str]:
    """Whether all predictions are the same and both sides as near to the truth as float32 allows, and a sentence that says so."""
    read = ours["logits"].argmax(-1)
    same, accuracy = np.sum(read == theirs["logits"].argmax(-1)), np.mean(read == labels)
    passed = same == len(read) and all(np.max(row[3:]) <= TOLERANCE for row in rows)
    gradients = max(row.jlstm_from_keras for row in rows if row.name.startswith("gradient"))
    peer = f"TensorFlow {metadata.version('tensorflow')}"
    return passed, (
        f"jlstm and {peer} {'agree' if passed else 'DISAGREE'}: {same} of {len(read)} predictions, "
        f"logits to {rows[0].jlstm_from_keras:.1e} and gradients to {gradients:.1e} of their largest (accuracy {accuracy:.4f})"
    )


def main() -> None:
    """Train, run both and, as the truth, jlstm in float64; judge."""
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
