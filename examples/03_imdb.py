"""Sentiment classification on IMDB: a classifier as in Keras, and a more accurate one.

The first uses the 5,000 most frequent words and the last 300 words of a review, padded in front and not masked. It has an
embedding of 15 features and an LSTM of 10 units. It is trained on binary cross-entropy with the Adam of Keras, for 5 epochs in
batches of 128. The last fifth of the training reviews is for validation. Needs `pip install "jlstm[examples]"`.

    python examples/03_imdb.py --seeds 5                    the first classifier with five seeds: mean and standard error
    python examples/03_imdb.py --best                       bidirectional, masked, with dropout, an ensemble of five networks
    python examples/03_imdb.py --predict "What a film!"     classify a text, with the score after each word
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
import tyro
from rich.console import Console

import jlstm
from common import reviews
from common.ensemble import Ensemble
from common.options import one_sentence
from jlstm import train
from jlstm.data import Reviews
from jlstm.models import SequenceClassifier


@dataclass(frozen=True)
class ImdbOptions(reviews.ReviewOptions):
    """Train a classifier on the IMDB reviews, or use it; the defaults are Keras's."""

    epochs: int = 5  # passes over the training reviews
    features: int = 15  # features of the embedding
    units: int = 10  # units of the LSTM
    masked: bool = False  # mask the padding, and use batches of reviews of similar length
    bidirectional: bool = False  # add a second LSTM that reads from the end to the start
    pool: Literal["last", "mean", "max"] = "last"  # how to pool the outputs of the LSTM
    input_dropout: float = 0.0  # dropout rate of the embedding's features, with one mask for all words of a review
    dropout: float = 0.0  # dropout rate of the pooled outputs
    learning_rate: float = 1e-3  # learning rate of Adam
    cosine: bool = False  # lower the learning rate to zero along a cosine
    best: bool = False  # replace options that have their default value by those in the table BEST of this file
    seeds: int = 1  # number of runs, with seeds from --seed upwards; --predict uses the first
    ensemble: bool = False  # report the mean of all seeds' logits in the last line, instead of the first seed
    out: Path = Path("results/imdb")  # folder for checkpoints, history.jsonl, weights.safetensors and pictures


BEST = {"words": 20_000, "length": 500, "features": 64, "units": 32, "masked": True, "bidirectional": True, "pool": "max"}
BEST |= {"word_dropout": 0.4, "input_dropout": 0.5, "dropout": 0.5, "batch": 64, "learning_rate": 2e-3, "cosine": True}
BEST |= {"epochs": 3, "seeds": 5, "ensemble": True}


def network(options: ImdbOptions) -> SequenceClassifier:
    """Return the model: Embed → LSTM, in one or both directions → pool → dropout → Dense 1."""
    layer = jlstm.LSTM(options.units, dropout=options.input_dropout)
    layer = jlstm.Bidirectional(layer) if options.bidirectional else layer
    choices = {"dropout": options.dropout, "masked": options.masked, "pool": options.pool}
    return SequenceClassifier(options.words, options.features, layer, **choices)


def adam(learning_rate: Any) -> optax.GradientTransformation:
    """Return Adam with the ε of Keras: 1e-7, added to the square root before the bias correction. Optax adds it after."""
    return optax.inject_hyperparams(optax.adam)(learning_rate, eps=lambda step: 1e-7 / jax.numpy.sqrt(1 - 0.999 ** (step + 1)))


def learn(learned: Reviews, validation: Reviews, options: ImdbOptions, console: Console) -> Any:
    """Train with one seed. Return the last parameters, or with --best those with the smallest validation loss."""
    model, width = network(options), 50 if options.masked else options.length
    loss = partial(reviews.loss_fn, model, optax.sigmoid_binary_cross_entropy, options.word_dropout)
    params = model.init(jax.random.key(options.seed), np.zeros((1, 1), np.int32))["params"]

    def report(record: train.Record, _: Any) -> None:
        parts = {"train": record.train, "validation": record.validation}
        figures = ", ".join(f"{name} accuracy {means['accuracy']:.4f}, loss {means['loss']:.4f}" for name, means in parts.items())
        console.print(f"Epoch {record.epoch:.3g}/{options.epochs}: {figures} ({record.seconds:.1f} s)")

    padded = partial(reviews.batches, options=options, width=width)
    batches, rate = padded(learned, seed=options.seed), options.learning_rate
    optimizer = adam(optax.cosine_decay_schedule(rate, options.epochs * len(batches)) if options.cosine else rate)
    result = options.fit(loss, params, optimizer, batches, validation=padded(validation), callbacks=[report])
    return result.best if options.best else result.params


def accuracy(model: Any, params: Any, test: Reviews, options: ImdbOptions) -> float:
    """Return the share of test reviews that are classified correctly."""
    batches = reviews.batches(test, options, 50 if options.masked else options.length)
    loss = partial(reviews.loss_fn, model, optax.sigmoid_binary_cross_entropy, 0.0)
    return train.evaluate(loss, params, batches, mesh=options.mesh())["accuracy"]


def main(options: ImdbOptions) -> None:
    """Train and test, or classify a text."""
    if options.best:
        options = replace(options, **{k: v for k, v in BEST.items() if getattr(options, k) == getattr(ImdbOptions, k)})
    options.prepare()
    console, model, members, accuracies = Console(highlight=False, soft_wrap=True), network(options), [], []
    if options.predict is not None:
        reviews.judge(options.predict, model, reviews.restore(model, options.out, best=options.best), options, console)
        return
    *splits, test = reviews.load(options, share=0.2)
    for seed in range(options.seed, options.seed + options.seeds):
        folder = options.out if seed == options.seed else options.out / f"seed_{seed}"
        members.append(learn(*splits, replace(options, seed=seed, out=folder), console))
        accuracies.append(accuracy(model, members[-1], test, options))
        console.print(f"Seed {seed}: test accuracy {accuracies[-1]:.4f}")
        jlstm.save(folder / "weights.safetensors", members[-1])
    if options.seeds > 1:
        mean, error = np.mean(accuracies), np.std(accuracies, ddof=1) / np.sqrt(options.seeds)
        console.print(f"Mean of {options.seeds} seeds: {mean:.4f} ± {error:.4f} (standard error)")
    reported = accuracy(Ensemble(model), members, test, options) if options.ensemble else accuracies[0]
    console.print(f"Test accuracy: {reported:.4f}")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(ImdbOptions))
