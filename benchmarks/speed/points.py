"""The points that are measured: a fixed grid, additional points, and the number of operations of each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

JOBS = {"step": ("step", "empty"), "matrix": ("product",)}  # by form
SEQUENCE = ("forward", "training")  # the jobs of all other forms


class Size(NamedTuple):
    """Input features, units and directions of one recurrent layer."""

    features: int
    units: int
    directions: int


class Point(NamedTuple):
    """The sizes of one problem.

    Attributes:
        batch: number of sequences.
        time: number of steps of each sequence.
        features: number of features of the inputs.
        units: number of units of each layer.
        form: "plain", "ragged", "bidirectional", "step" (one step from a given carry) or "matrix" (a product, no LSTM).
        group: points of "grid" are in the means; those of "besides", "long" and "peak" are not.
        cell: "lstm", "peephole" for an LSTM with peepholes, "projection" for an LSTM whose h is projected to half as many numbers
            as there are units, or "gru" for the GRU whose reset gate acts after the matrix product, as in cuDNN.
    """

    batch: int
    time: int
    features: int
    units: Sequence[int]
    form: str = "plain"
    group: str = "grid"
    cell: str = "lstm"

    @property
    def gates(self) -> int:
        """The number of gates, each of which has a column of the weights for each unit."""
        return 3 if self.cell == "gru" else 4

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Return the point that an entry of the JSON file, or a request to a worker, describes."""
        fields = {name: entry[name] for name in cls._fields if name in entry}  # older files have no cell
        return cls(**fields | {"units": tuple(entry["units"])})

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the JSON file: the fields, and the number of operations of each job."""
        return self._asdict() | {"flops": {job: self.flops(job) for job in self.jobs}}

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names of the jobs that are timed."""
        return JOBS.get(self.form, SEQUENCE)

    @property
    def layers(self) -> list[Size]:
        """The sizes of all layers, from the lowest."""
        directions = 2 if self.form == "bidirectional" else 1
        features = [self.features, *(directions * self.hidden(units) for units in self.units)]
        # Not strict: the last entry of `features` is the width of the outputs, which no layer reads.
        return [Size(width, units, directions) for width, units in zip(features, self.units, strict=False)]

    def hidden(self, units: int) -> int:
        """Return the size of h of a layer with some units."""
        return units // 2 if self.cell == "projection" else units

    @property
    def lengths(self) -> np.ndarray:
        """The number of valid steps of each sequence: `time` for the first one, random from 1 to `time` for the others."""
        # Without a sequence of the full length, the batch would be narrower in some frameworks than in others.
        lengths = np.random.default_rng(0).integers(1, self.time + 1, self.batch, dtype=np.int32)
        lengths[0] = self.time
        return lengths

    @property
    def steps(self) -> int:
        """The number of valid steps over all sequences."""
        return int(self.lengths.sum()) if self.form == "ragged" else self.batch * self.time

    def inputs(self) -> np.ndarray:
        """Return inputs of shape (time, batch, features), float32."""
        return np.random.default_rng(1).standard_normal((self.time, self.batch, self.features), np.float32)

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return two matrices, float32: (batch, features) and (features, units)."""
        draw = np.random.default_rng(1).standard_normal
        return draw((self.batch, self.features), np.float32), draw((self.features, self.units[0]), np.float32)

    def flops(self, job: str) -> int | None:
        """Return the floating-point operations in the matrix products of a job; None for a single step and for an empty call.

        Forward: 2 · steps · (features + hidden) · gates · units in each layer and direction, and 2 · steps · units · hidden for a
        projection.

        Training: the forward products and those of the backward pass, which are the gradients of both weights
        (features + hidden), of h before each step (hidden) and of the layer's inputs (features). A projection has those of its
        weights and of what it projects. The first layer's inputs need no gradient.

        Padded steps and element-wise operations are not counted.
        """
        if job == "product":
            return 2 * self.batch * self.features * self.units[0]
        if job not in SEQUENCE:
            return None
        products = 0
        for number, (features, units, directions) in enumerate(self.layers):
            hidden = self.hidden(units)
            backward = (features + hidden) + hidden + (features if number else 0)
            widths = features + hidden + (backward if job == "training" else 0)
            projection = units * hidden * (3 if job == "training" else 1) if self.cell == "projection" else 0
            products += directions * (self.gates * units * widths + projection)
        return 2 * self.steps * products

    def results(self, job: str) -> tuple[int, int] | None:
        """Return the least and the largest size of a job's result: all outputs, or all gradients, with one bias or two."""
        if job == "forward":
            outputs = self.batch * self.time * self.hidden(self.units[-1]) * self.layers[-1].directions
            return outputs, outputs
        if job == "training":
            weights = sum(layer.directions * self._weights(layer) for layer in self.layers)
            biases = sum(layer.directions * self.gates * layer.units for layer in self.layers)
            return weights + biases, weights + 2 * biases
        return None

    def _weights(self, layer: Size) -> int:
        """Return the number of weights of one direction of a layer, without biases."""
        features, units, _ = layer
        further = {"peephole": 3 * units, "projection": units * self.hidden(units)}
        return self.gates * units * (features + self.hidden(units)) + further.get(self.cell, 0)


def _named(sizes: str) -> dict[str, Point]:
    points = {}
    for name in sizes.split():
        batch, time, features, units = map(int, name.split("x"))
        points[name] = Point(batch, time, features, (units,))
    return points


GRID = _named(
    "128x28x128x128 20x35x650x650 128x300x15x10 1x1000x64x256 64x100x512x512 "
    "32x200x300x128 16x100x128x1024 256x50x40x64 1x100x32x32 8x500x80x320"
)
BESIDES = {
    "ragged": Point(32, 200, 300, (128,), "ragged", "besides"),
    "bidirectional": Point(32, 200, 300, (128,), "bidirectional", "besides"),
    "two-layers": Point(32, 200, 300, (128, 64), "plain", "besides"),
    "gru": Point(32, 200, 300, (128,), "plain", "besides", "gru"),
    "wide-gru": Point(64, 100, 512, (512,), "plain", "besides", "gru"),
    "small-gru": Point(128, 300, 15, (10,), "plain", "besides", "gru"),
    "peephole": Point(32, 200, 300, (128,), "plain", "besides", "peephole"),
    "projection": Point(32, 200, 300, (128,), "plain", "besides", "projection"),
    "wide-projection": Point(64, 100, 512, (512,), "plain", "besides", "projection"),
    "step": Point(1, 1, 64, (256,), "step", "besides"),
    "small-step": Point(1, 1, 64, (64,), "step", "besides"),
}
LONG = {f"T{time}": Point(8, time, 16, (32,), "plain", "long") for time in (100, 1_000, 10_000, 100_000)}
POINTS = GRID | BESIDES | LONG
QUICK = ("128x28x128x128", "256x50x40x64", "1x100x32x32", "small-step")
WARM = Point(2, 3, 4, (5,), "plain", "warm")  # run first, so that one-time work of a framework counts for no point
PEAK = Point(2048, 1, 2048, (2048,), "matrix", "peak")  # always measured, for the share of the machine's peak
