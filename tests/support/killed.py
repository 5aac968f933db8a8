"""A run to be killed: `python killed.py dropout|carry FOLDER` trains an LSTM and prints what it is about to do.

Batches come slowly, so that a signal can hit between any two events. A finished run is repeated without disturbance in
FOLDER/whole, for the test to compare.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jlstm import LSTM
from jlstm.data import Minibatches
from jlstm.train import Outcome, fit
from jlstm.train.checkpoints import Checkpoints

LAYER = LSTM(5, dropout=0.2, recurrent_dropout=0.1)
OPTIMIZER = optax.adam(0.02)
STEPS, EVERY = 40, 4


class Announced(Minibatches):
    """Minibatches that print a line when a batch is fetched."""

    def __init__(self, phase, count, seed):
        rng = np.random.default_rng(count)
        labels = rng.integers(0, 2, count).astype(np.float32)
        super().__init__((rng.normal(size=(count, 6, 3)).astype(np.float32) + labels[:, None, None], labels), 4, seed)
        self.phase = phase

    def epoch(self, *position):
        for batch in super().epoch(*position):
            announce(self.phase)
            yield batch


def announce(phase):
    print(phase, flush=True)
    time.sleep(0.005)


def loss_fn(params, examples, key, carry):
    xs, labels = examples
    last, ys = LAYER.apply(params["lstm"], xs, carry, key=key)
    logits = ys[:, -1] @ params["output"]
    losses = optax.losses.sigmoid_binary_cross_entropy(logits, labels)
    return Outcome(losses, {"accuracy": (logits > 0) == (labels > 0.5)}, None if carry is None else last)


def main(variant, folder):
    params = {"lstm": LAYER.init(jax.random.key(0), features=3), "output": jnp.ones(5)}
    save = Checkpoints.save

    def announced_save(self, snapshot):
        announce("write")
        save(self, snapshot)

    Checkpoints.save = announced_save
    options = {
        "validation": Announced("validation", count=7, seed=None),
        "begin": (lambda size: LAYER.initial_carry(params["lstm"], (size,))) if variant == "carry" else None,
        "callbacks": [lambda record, params: announce("epoch end")],
        "steps_per_call": 2,
    }
    for where in (folder, folder / "whole"):
        where.mkdir(exist_ok=True)
        paths = {"checkpoints": where / "checkpoints", "history": where / "history.jsonl"}
        fit(loss_fn, params, OPTIMIZER, Announced("step", count=22, seed=0), steps=STEPS, every=EVERY, **options, **paths)
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
