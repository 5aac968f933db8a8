"""The Keras model for both backends. It is batch-major, because Keras has no time-major LSTM, and has one bias."""

from typing import Any

import keras
import numpy as np

from benchmarks.speed.points import Point


def sequential(point: Point) -> keras.Model:
    """Return a model of stacked LSTM or GRU layers. Each returns the outputs of all steps, with zeros at padded steps."""
    layers: list[Any] = []
    for units in point.units:
        options = {"zero_output_for_mask": True} if point.form == "ragged" else {}
        kind = keras.layers.GRU if point.cell == "gru" else keras.layers.LSTM
        layer = kind(units, return_sequences=True, **options)
        layers.append(keras.layers.Bidirectional(layer) if point.form == "bidirectional" else layer)
    inputs = keras.Input((point.time, point.features), batch_size=point.batch)
    ys: Any = inputs
    mask = keras.Input((point.time,), batch_size=point.batch, dtype="bool")
    for layer in layers:
        ys = layer(ys, mask=mask) if point.form == "ragged" else layer(ys)
    return keras.Model([inputs, mask] if point.form == "ragged" else inputs, ys)


def inputs(point: Point) -> list[np.ndarray]:
    """Return the arrays that the model takes: the inputs and, for a ragged batch, the mask."""
    xs = np.ascontiguousarray(point.inputs().swapaxes(0, 1))
    return [xs, np.arange(point.time) < point.lengths[:, None]] if point.form == "ragged" else [xs]


def cell(point: Point) -> tuple[Any, list[np.ndarray]]:
    """Return a cell for single steps, and its initial states."""
    lstm_cell = keras.layers.LSTMCell(point.units[0])
    lstm_cell.build((point.batch, point.features))
    return lstm_cell, [np.zeros((point.batch, point.units[0]), np.float32) for _ in range(2)]
