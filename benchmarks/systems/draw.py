"""Write the initial weights and the batches of a problem, in the order of training, for the Keras side.

It runs the example with its own data and initializers, and stops it before any training.
"""

from collections import defaultdict
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from benchmarks.systems import example, exchange
from benchmarks.systems.problem import Arrays, Problem
from jlstm import train
from jlstm.data import Batches


class Drawn(Exception):  # noqa: N818
    """Raised when all batches are written, to stop the example."""


def run(problem: Problem) -> dict[str, Any]:
    """Write `weights`, `epoch_0`, `epoch_1`, … and `test` into the problem's folder; return the settings of the training."""
    settings = example.settings(problem)

    def fit(options: Any, _loss_fn: Any, params: Any, _optimizer: Any, batches: Batches[Any], **_: Any) -> train.Result:
        total = options.epochs * len(batches) if options.steps is None else options.steps
        problem.write_arrays("weights", flatten_dict(jax.tree.map(np.asarray, params), sep="."))
        for number, start in enumerate(range(0, total, len(batches))):
            packed = exchange.pack(counted(batches, number, min(total - start, len(batches))))
            problem.write_arrays(f"epoch_{number}", packed)
        settings.update(batch_size=batches.size, input_shape=exchange.input_shape(packed))
        settings.update(total_steps=total, steps_an_epoch=len(batches))
        # The example prints and plots metrics of a training that did not happen, so every metric that it looks up is 1.
        metrics = defaultdict[str, float](lambda: 1.0)
        return train.Result(params, [train.Record(total, total / len(batches), metrics, metrics, 1.0, 1.0)], params)

    def evaluate(_loss_fn: Any, _params: Any, batches: Batches[Any], **_: Any) -> dict[str, float]:
        problem.write_arrays("test", exchange.pack(counted(batches, 0, problem.test_batches or len(batches))))
        raise Drawn

    try:
        example.run(problem, fit, evaluate)
    except Drawn:
        return settings
    raise RuntimeError(f"examples/{problem.system.script}.py ended without jlstm.train.evaluate on its test data")


def counted(batches: Batches[Any], number: int, count: int) -> list[Arrays]:
    """Return the first batches of an epoch, without the examples that only fill up a batch."""
    return [
        {
            jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)[batch.weights > 0]
            for path, leaf in jax.tree_util.tree_leaves_with_path(batch.examples)
        }
        for batch in example.FirstBatches(batches, count).epoch(number)
    ]
