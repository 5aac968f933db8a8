"""The systems as Keras models: the sizes come from the weights, everything else from the example's options."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks.systems.problem import Arrays

Settings = dict[str, Any]


class Peer(NamedTuple):
    """A compiled Keras model and what belongs to it.

    Attributes:
        model: the model; its layers have the names of ours.
        pair: splits the arrays of an epoch into inputs and targets.
        callbacks: the callbacks of its training.
    """

    model: keras.Model
    pair: Callable[[Arrays], tuple[np.ndarray, np.ndarray]]
    callbacks: Sequence[keras.callbacks.Callback] = ()


def mnist(weights: Arrays, settings: Settings, optimizers: SimpleNamespace) -> Peer:
    """Rows of pixels, Dense, LSTM, Dense; over whole epochs the learning rate falls along a cosine."""
    # The example has a cosine schedule with --epochs, and a constant rate with --steps.
    rate = keras.optimizers.schedules.CosineDecay(1e-3, settings["total_steps"]) if "epochs" in settings else 1e-3
    model = keras.Sequential(
        [
            keras.Input(settings["input_shape"]),
            keras.layers.Dense(weights["project.bias"].size, name="project"),
            keras.layers.LSTM(len(weights["lstm.recurrent_kernel"]), name="lstm"),
            keras.layers.Dense(weights["classify.bias"].size, name="classify"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.PaperAdam(rate, epsilon=1e-8), loss, metrics=["accuracy"])
    return Peer(model, lambda arrays: (arrays["images"], arrays["labels"]))


def sentiment(weights: Arrays, settings: Settings, optimizers: SimpleNamespace) -> Peer:
    """Words, padding masked, two LSTMs with dropout of their outputs, a sigmoid; clipped Adadelta on the squared error."""
    vocabulary, features = weights["embed.embedding"].shape
    rate = 1 - settings["keep"]
    model = keras.Sequential(
        [
            keras.Input(settings["input_shape"], dtype="int32"),
            keras.layers.Embedding(vocabulary, features, mask_zero=True, name="embed"),
            keras.layers.LSTM(len(weights["layer_0.recurrent_kernel"]), return_sequences=True, name="layer_0"),
            keras.layers.Dropout(rate),
            keras.layers.LSTM(len(weights["layer_1.recurrent_kernel"]), name="layer_1"),
            keras.layers.Dropout(rate),
            keras.layers.Dense(1, activation="sigmoid", name="head"),
        ]
    )
    schedule = keras.optimizers.schedules.CosineDecay(settings["learning_rate"], settings["epochs"] * settings["steps_an_epoch"])
    optimizer = optimizers.Adadelta(schedule, settings["rho"], settings["epsilon"], global_clipnorm=1)
    model.compile(optimizer, "mse", metrics=["accuracy"])
    return Peer(model, lambda arrays: (arrays["tokens"], arrays["labels"]))


def imdb(weights: Arrays, settings: Settings, optimizers: SimpleNamespace) -> Peer:
    """Words, padding masked only with the option, one LSTM, a sigmoid; Adam on the cross-entropy."""
    vocabulary, features = weights["embed.embedding"].shape
    model = keras.Sequential(
        [
            keras.Input(settings["input_shape"], dtype="int32"),
            keras.layers.Embedding(vocabulary, features, mask_zero=settings["masked"], name="embed"),
            keras.layers.LSTM(len(weights["layer_0.recurrent_kernel"]), name="layer_0"),
            keras.layers.Dense(1, activation="sigmoid", name="head"),
        ]
    )
    model.compile(optimizers.Adam(settings["learning_rate"]), "binary_crossentropy", metrics=["accuracy"])
    return Peer(model, lambda arrays: (arrays["tokens"], arrays["labels"]))


def language(weights: Arrays, settings: Settings, optimizers: SimpleNamespace) -> Peer:
    """Words, stateful LSTMs with dropout between them, logits of the next word; the loss is summed over a window."""
    vocabulary, units = weights["embed.embedding"].shape
    layers = [keras.layers.Embedding(vocabulary, units, name="embed"), keras.layers.Dropout(settings["dropout"])]
    for k in range(2):
        layers.append(keras.layers.LSTM(units, return_sequences=True, stateful=True, name=f"layer_{k}"))
        layers.append(keras.layers.Dropout(settings["dropout"]))
    windows = keras.Input(batch_shape=(settings["batch_size"], *settings["input_shape"]), dtype="int32")
    model = keras.Sequential([windows, *layers, keras.layers.Dense(vocabulary, name="head")])
    model.compile(optimizers.SGD(settings["learning_rate"], global_clipnorm=settings["clip"]), summed)

    def rate(epoch: int) -> float:
        return settings["learning_rate"] * settings["decay"] ** max(epoch + 1 - settings["hold"], 0)

    def pair(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
        # Steps beyond the end of the text get the target -1, which `summed` leaves out.
        return arrays["inputs"], np.where(arrays["mask"] > 0, arrays["targets"], -1)

    return Peer(model, pair, [keras.callbacks.LearningRateScheduler(rate)])


def summed(targets: Any, logits: Any) -> Any:
    """Return the cross-entropy in nats, summed over the steps whose target is not -1."""
    nats = keras.ops.sparse_categorical_crossentropy(keras.ops.maximum(targets, 0), logits, from_logits=True)
    return keras.ops.sum(keras.ops.where(targets < 0, 0.0, nats), axis=1)


def perplexity(loss: float, test: Arrays) -> float:
    """Return the perplexity per word from a loss that is a mean over windows.

    Args:
        loss: mean over windows of the cross-entropy in nats, summed over the steps of a window.
        test: packed test batches, with the mask of valid targets.
    """
    windows = test["mask.shapes"][:, 0].sum()
    return float(np.exp(loss * windows / test["mask"].sum()))


PEERS: dict[str, Callable[[Arrays, Settings, SimpleNamespace], Peer]] = {
    "mnist": mnist,
    "sentiment": sentiment,
    "imdb": imdb,
    "language": language,
}


def load(model: keras.Model, weights: Arrays) -> None:
    """Load our initial weights into a built model. Their layout is Keras's.

    Raises:
        ValueError: a variable or a weight has no counterpart.
    """
    variables = {
        f"{layer.name}.{variable.name.replace('embeddings', 'embedding')}": variable
        for layer in model.layers
        for variable in layer.trainable_variables
    }
    if variables.keys() != weights.keys():
        raise ValueError(f"both sides must have the same weights, got {sorted(variables)} and {sorted(weights)}")
    for name, variable in variables.items():
        variable.assign(weights[name])
