"""The command `python -m benchmarks.compat_keras`: the drop-ins of `jlstm.compat.keras` and Keras's own layers, in turns.

Both models are the same Keras model on JAX, one of them accelerated. In a round each model has a turn, every other round in
reverse order. The ratio is Keras's time over that of the drop-ins, so that more than 1 means that the drop-ins are faster.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.machine import cores
from benchmarks.speed import pool
from benchmarks.speed.points import POINTS, Point

NAMES = [name for name, point in POINTS.items() if point.form != "step" and point.group != "long"]
BATCHES = 3  # of each fit
TURN_SECONDS = 0.1  # the least time of a turn: short calls are repeated


class Row(NamedTuple):
    """The times of one job at one point, in seconds, one for each round."""

    point: str
    job: str
    keras: list[float]
    drop_in: list[float]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: Keras's time over that of the drop-ins."""
        return statistics.median(theirs / ours for theirs, ours in zip(self.keras, self.drop_in, strict=True))

    def __str__(self) -> str:
        theirs, ours = (1e3 * statistics.median(times) for times in (self.keras, self.drop_in))
        ratios = [theirs / ours for theirs, ours in zip(self.keras, self.drop_in, strict=True)]
        low_to_high = f"{min(ratios):.2f}–{max(ratios):.2f}"
        return f"{self.point:18} {self.job:8} {theirs:9.2f} {ours:9.2f} {self.ratio:7.2f}  {low_to_high}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    usage = argparse.ArgumentParser(prog="python -m benchmarks.compat_keras", description=(__doc__ or "").split("\n\n")[1])
    usage.add_argument("--points", nargs="+", metavar="POINT", choices=NAMES, default=NAMES, help=f"some of {', '.join(NAMES)}")
    usage.add_argument("--rounds", type=int, metavar="N", default=7, help="turns of each model (default: %(default)s)")
    usage.add_argument("--gpu", action="store_true", help="run on the GPU")
    options = usage.parse_args(arguments)
    if options.rounds < 1:
        usage.error(f"--rounds must be at least 1, got {options.rounds}")
    print(f"{'point':18} {'job':8} {'Keras ms':>9} {'jlstm ms':>9} {'ratio':>7}  lowest–highest", flush=True)
    rows = []
    for name in options.points:
        for row in measure(name, POINTS[name], options.rounds):
            print(row, flush=True)
            rows.append(row)
    slower = [f"{row.point} {row.job}" for row in rows if row.ratio < 1]
    print(f"slower than Keras: {', '.join(slower) or 'nowhere'}; geometric mean of the ratios: {mean(rows):.2f}")
    return 0


def mean(rows: Sequence[Row]) -> float:
    """Return the geometric mean of the ratios."""
    return statistics.geometric_mean(row.ratio for row in rows)


def measure(name: str, point: Point, rounds: int) -> Iterator[Row]:
    """Yield the times of the forward pass and of `fit`, for each batch.

    Args:
        name: the name of the point.
        point: the sizes.
        rounds: the number of turns of each model, after a call that compiles it.
    """
    from benchmarks.speed.frameworks import keras_models

    models = [model(point, accelerated) for accelerated in (False, True)]
    inputs = [np.concatenate([array] * BATCHES) for array in keras_models.inputs(point)]
    xs = inputs if len(inputs) > 1 else inputs[0]
    batch = [array[: point.batch] for array in inputs] if len(inputs) > 1 else inputs[0][: point.batch]
    targets = np.zeros((len(inputs[0]), *models[0].output_shape[1:]), np.float32)
    options = {"batch_size": point.batch, "shuffle": False, "verbose": 0}
    jobs: dict[str, tuple[int, Callable[[Any], Any]]] = {
        "forward": (1, lambda model: model.predict_on_batch(batch)),
        "fit": (BATCHES, lambda model: model.fit(xs, targets, **options)),
    }
    for job, (batches, call) in jobs.items():
        for compiled in models:
            call(compiled)
        times: list[list[float]] = [[], []]
        for turn in range(rounds):
            for k in (0, 1) if turn % 2 else (1, 0):
                times[k].append(seconds(call, models[k]) / batches)
        yield Row(name, job, *times)


def seconds(call: Callable[[Any], Any], model: Any) -> float:
    """Return the time of a call, averaged over a turn."""
    calls, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < TURN_SECONDS or not calls:
        call(model)
        calls += 1
    return elapsed / calls


def model(point: Point, accelerated: bool) -> Any:
    """Return a compiled model of a point, of Keras's layers or of the drop-ins, always with the same weights."""
    import keras

    from benchmarks.speed.frameworks import keras_models
    from jlstm.compat.keras import accelerate

    keras.utils.set_random_seed(0)
    sequential = keras_models.sequential(point)
    if accelerated:
        accelerate(sequential)
    sequential.compile("sgd", "mse")
    return sequential


if __name__ == "__main__":
    if (
        os.environ.get("KERAS_BACKEND") != "jax"
    ):  # memory settings must be there before Python starts, and the backend before Keras
        variables = pool.environment(cores(), gpu="--gpu" in sys.argv) | {"KERAS_BACKEND": "jax"}
        command = [sys.executable, "-m", "benchmarks.compat_keras", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | variables)
    sys.exit(main())
