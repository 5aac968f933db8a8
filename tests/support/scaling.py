"""The training runs for the tests of several devices and processes. As a program it is one of several processes.

Usage: python tests/support/scaling.py HOST:PORT PROCESSES PROCESS FOLDER JOBS
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.experimental import multihost_utils

from jlstm import LSTM
from jlstm.data import Minibatches, Windows
from jlstm.models import LanguageModel, SequenceClassifier
from jlstm.train import Outcome, evaluate, fit, mesh
from problems import normal


class Problem(NamedTuple):
    """The arguments of `fit`."""

    loss_fn: Any
    params: Any
    optimizer: Any
    batches: Any
    validation: Any
    begin: Any = None


def classifier(seed=0, backend="auto"):
    """A classifier with dropout and Adam, whose last batch is half filled up with examples that do not count."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 20, (64, 6))
    labels = (tokens.sum(1) > 60).astype(_dtype())
    model = SequenceClassifier(20, 5, LSTM(4, backend=backend), dropout=0.3)

    def loss_fn(params, examples, key, carry):
        logits = model.apply({"params": params}, examples[0], key=key)
        hits = (logits > 0) == (examples[1] > 0)
        return Outcome(optax.sigmoid_binary_cross_entropy(logits, examples[1]), {"accuracy": hits})

    params = _random(model, tokens, seed)
    batches, validation = Minibatches((tokens[:40], labels[:40]), 16, seed=0), Minibatches((tokens[40:], labels[40:]), 16)
    return Problem(loss_fn, params, optax.adam(0.01), batches, validation)


def language_model():
    """A language model with dropout, clipping and Adam. Its carry goes from window to window; the last window is shorter."""
    tokens = np.random.default_rng(0).integers(0, 11, 16 * 19 + 3, dtype=np.int32)
    model = LanguageModel(11, 4, layers=1, dropout=0.3)

    def loss_fn(params, window, key, carry):
        logits, carry = model.apply({"params": params}, window.inputs, carry, key=key)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets) * window.mask
        return Outcome(nats.sum(1), {}, carry)

    params = _random(model, tokens[None])
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.02))
    batches, validation = Windows(tokens, 16, 5), Windows(tokens[:100], 16, 5)
    return Problem(loss_fn, params, optimizer, batches, validation, lambda size: _cast(model.initial_carry(size)))


PROBLEMS = {"classifier": classifier, "language model": language_model}


def run(problem, mesh=None, *, epochs=4, pause=0.0, **options):
    """Train, and sleep at each record; return what `fit` does."""
    callbacks = [lambda *_: time.sleep(pause)]
    return fit(
        *problem[:4], epochs=epochs, validation=problem.validation, begin=problem.begin, callbacks=callbacks, mesh=mesh, **options
    )


def figures(history):
    """Return the numbers of all records that do not depend on the clock."""
    return [list(part.values()) for record in history for part in (record.train, record.validation)]


def main(address, processes, process, folder, jobs):
    """Run the jobs, and write their results."""
    jax.distributed.initialize(address, int(processes), int(process))
    for number, job in enumerate(json.loads(jobs)):
        seed, units, problem = job.pop("differ", 0) * int(process), job.pop("units", 1), PROBLEMS[job.pop("problem")]()
        problem = classifier(seed) if seed else problem
        path = Path(folder) / f"{number}_of_{process}"
        try:
            result = run(problem, mesh(units), **job)
        except ValueError as error:
            path.with_suffix(".json").write_text(json.dumps(str(error)))
            continue
        measured = evaluate(problem.loss_fn, result.params, problem.validation, begin=problem.begin)
        np.savez(path.with_suffix(".npz"), *map(whole, jax.tree.leaves((result.params, result.best))))
        path.with_suffix(".json").write_text(json.dumps([figures(result.history), measured]))


def whole(leaf):
    """Return the whole of an array whose parts may lie with other processes."""
    return np.asarray(leaf) if leaf.is_fully_replicated else multihost_utils.process_allgather(leaf, tiled=True)


def _dtype():
    return np.dtype("float64" if jax.config.jax_enable_x64 else "float32")


def _cast(tree):
    return jax.tree.map(lambda leaf: leaf.astype(_dtype()), tree)


def _random(model, tokens, seed=0):
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    return normal(shapes, rng=np.random.default_rng(seed), dtype=_dtype())


if __name__ == "__main__":
    main(*sys.argv[1:])
