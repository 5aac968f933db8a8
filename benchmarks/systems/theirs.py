"""The other side: train and evaluate with Keras on TensorFlow, by `model.fit` and `model.evaluate`, and time the training."""

import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import keras
import tensorflow as tf

from benchmarks.machine import peak_bytes
from benchmarks.systems import exchange, models, optimizers
from benchmarks.systems.problem import FIRST, Arrays, Problem, Result

if keras.backend.backend() != "tensorflow":
    raise ImportError(f"Keras runs on {keras.backend.backend()!r} here, set KERAS_BACKEND=tensorflow")


class EpochClock(keras.callbacks.Callback):
    """Records the loss and the seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def on_epoch_begin(self, *_: Any) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, _: int, logs: dict[str, float]) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self.started)
        self.losses.append(float(logs["loss"]))


class StepClock(EpochClock):
    """Records the loss and the seconds of each step. Keras itself reports the mean loss of the epoch so far."""

    def on_epoch_end(self, _: int, logs: dict[str, float]) -> None:
        """Do nothing, because the losses of the steps are already recorded."""

    def on_train_batch_begin(self, _: int, **__: Any) -> None:
        """Reset the mean of the losses, and start the clock."""
        self.model.reset_metrics()
        self.on_epoch_begin()

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Stop the clock."""
        super().on_epoch_end(batch, logs)


def run(problem: Problem) -> Result:
    """Train and test the Keras model of a problem, and measure.

    The first steps run twice: first to compile them and to keep their losses, then with the clock running.
    """
    weights, settings = problem.read_arrays("weights"), problem.read("draw")
    epochs = -(-settings["total_steps"] // settings["steps_an_epoch"])
    model, pair, callbacks = models.PEERS[problem.name](weights, settings, optimizers.STOCK if problem.stock else optimizers.SAME)
    models.load(model, weights)
    steps = warm_up(model, data(problem.read_arrays("epoch_0"), pair, settings["batch_size"], FIRST))

    # Each epoch has its own order of batches, so `fit` is called once per epoch. With `initial_epoch`, the callbacks that change
    # the learning rate still get the right number.
    clock = EpochClock()
    for number in range(epochs):
        batches = data(problem.read_arrays(f"epoch_{number}"), pair, settings["batch_size"])
        begin(model)
        model.fit(**batches, shuffle=False, verbose=0, initial_epoch=number, epochs=number + 1, callbacks=[*callbacks, clock])

    test = problem.read_arrays("test")
    begin(model)
    means = model.evaluate(**data(test, pair, settings["batch_size"]), verbose=0, return_dict=True)
    return Result(
        first_losses=steps.losses[:FIRST],
        first_step_seconds=steps.seconds[0],
        losses=clock.losses,
        seconds=sum(clock.seconds),
        seconds_of_each=clock.seconds,
        steps=settings["total_steps"],
        steps_an_epoch=settings["steps_an_epoch"],
        steps_per_call=model.steps_per_execution,
        figure=means["accuracy"] if "accuracy" in means else models.perplexity(means["loss"], test),
        test_loss=means["loss"],
        peak_bytes=peak_bytes(),
        jit_compile=model.jit_compile,
        threads=tf.config.threading.get_intra_op_parallelism_threads() or "one a core",
    )


def data(packed: Arrays, pair: Callable[[Arrays], Any], size: int, count: int | None = None) -> dict[str, Any]:
    """Return arguments for `fit` and `evaluate`: arrays if all batches have the same width, else a dataset.

    Args:
        packed: batches.
        pair: splits them into inputs and targets.
        size: examples per batch.
        count: number of batches to take; None for all. The rows of an incomplete last batch are added, because TensorFlow
            compiles another function for them.
    """
    joined = exchange.joined(packed)
    if joined is not None:
        x, y = pair(joined)
        rows = len(x) if count is None else count * size + len(x) % size
        return {"x": x[:rows], "y": y[:rows], "batch_size": size}
    pairs = [pair(batch) for batch in islice(exchange.unpack(packed), count)]
    signature = tuple(tf.TensorSpec([None] * array.ndim, array.dtype) for array in pairs[0])
    dataset = tf.data.Dataset.from_generator(lambda: iter(pairs), output_signature=signature)
    return {"x": dataset.apply(tf.data.experimental.assert_cardinality(len(pairs))).prefetch(tf.data.AUTOTUNE)}


def warm_up(model: keras.Model, batches: dict[str, Any]) -> StepClock:
    """Train on some batches, restore all variables, and return the clock with the losses and seconds of the steps."""
    model.optimizer.build(model.trainable_variables)  # creates the moments now, so that they are restored too
    variables = [*model.variables, *model.optimizer.variables]
    initial_values = [variable.numpy() for variable in variables]
    model.fit(**batches, shuffle=False, verbose=0, callbacks=[clock := StepClock()])
    for variable, value in zip(variables, initial_values, strict=True):
        variable.assign(value)
    return clock


def begin(model: keras.Model) -> None:
    """Reset the states of stateful layers to zero."""
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_state()
