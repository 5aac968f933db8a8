"""Sentiment classification on IMDB with two LSTM layers, trained with Adadelta on the squared error.

The network has an embedding, an LSTM of 128 units and one of 64 units with dropout on their outputs, and a sigmoid of the last
output. Padding is masked, and a batch holds reviews of similar length. Needs `pip install "jlstm[examples]"`.

    python examples/02_sentiment.py                             train, and save a checkpoint in --out
    python examples/02_sentiment.py --test                      restore the checkpoint in a new process, and test
    python examples/02_sentiment.py --predict "What a film!"    classify a text, with the score after each word
"""

from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import jax
import optax
import tyro
from rich.console import Console

import jlstm
from common import reviews
from common.options import one_sentence
from jlstm import train
from jlstm.models import SequenceClassifier


@dataclass(frozen=True)
class SentimentOptions(reviews.ReviewOptions):
    """Train the two-layer network on the IMDB reviews, or use it."""

    epochs: int = 4  # passes over the training reviews
    batch: int = 64  # reviews per step
    words: int = 10_000  # size of the vocabulary: the most frequent words
    length: int = 200  # words kept of a review: the last ones
    features: int = 64  # features of the embedding
    keep: float = 0.75  # share of each layer's outputs that dropout keeps
    learning_rate: float = 10.0  # of Adadelta, at the start of a cosine schedule; 1 in the paper, 0.001 in Keras and TensorFlow 1
    rho: float = 0.95  # decay of Adadelta's two running means of squares
    epsilon: float = 1e-8  # added under both square roots of Adadelta
    test: bool = False  # evaluate the checkpoint in --out on the test reviews instead of training
    out: Path = Path("results/sentiment")  # folder for checkpoints, history.jsonl, weights.safetensors and pictures


def network(options: SentimentOptions) -> SequenceClassifier:
    """Return the model: Embed → LSTM 128 → dropout → LSTM 64 → last valid output → dropout → Dense 1."""
    layers = (jlstm.LSTM(128), jlstm.LSTM(64))
    return SequenceClassifier(options.words, options.features, layers, dropout=1 - options.keep, masked=True)


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return (σ(logit) - label)² for each review."""
    return (jax.nn.sigmoid(logits) - labels) ** 2


def learn(model: SequenceClassifier, options: SentimentOptions, console: Console) -> Any:
    """Train, print a line per epoch, and return the parameters with the smallest validation loss."""
    training, validation, _ = reviews.load(options, share=0.1)
    batches = reviews.batches(training, options, width=50, seed=options.seed)
    epochs = options.epochs if options.steps is None else ceil(options.steps / len(batches))

    def report(record: train.Record, _: Any) -> None:
        epoch = ceil(record.epoch)
        batch = record.step - (epoch - 1) * len(batches)
        console.print(
            f"Epoch: {epoch}/{epochs} Batch: {batch}/{len(batches)} Train Loss: {record.train['loss']:.3f} "
            f"Train Accuracy: {record.train['accuracy']:.3f} Val Accuracy: {record.validation['accuracy']:.3f}"
        )

    loss = partial(reviews.loss_fn, model, squared_error, options.word_dropout)
    rate = optax.cosine_decay_schedule(options.learning_rate, options.epochs * len(batches))
    adadelta = optax.adadelta(rate, options.rho, options.epsilon)
    optimizer = optax.chain(optax.clip_by_global_norm(1), adadelta)
    params = model.init(jax.random.key(options.seed), jax.numpy.zeros((1, 1), "int32"))["params"]
    validation_batches = reviews.batches(validation, options, width=50)
    result = options.fit(loss, params, optimizer, batches, validation=validation_batches, callbacks=[report])
    jlstm.save(options.out / "weights.safetensors", result.best)
    steps, seconds = result.history[-1].step, sum(record.seconds for record in result.history)
    console.print(f"{seconds * len(batches) / steps:.1f} s an epoch; the checkpoint is in {options.out / 'checkpoints'}")
    return result.best


def main(options: SentimentOptions) -> None:
    """Train and test, or only test, or classify a text."""
    options.prepare()
    console, model = Console(highlight=False, soft_wrap=True), network(options)
    restored = options.test or options.predict is not None
    params = reviews.restore(model, options.out, best=True) if restored else learn(model, options, console)
    if options.predict is not None:
        reviews.judge(options.predict, model, params, options, console)
        return
    _, _, test = reviews.load(options, share=0.1)
    loss = partial(reviews.loss_fn, model, squared_error, options.word_dropout)
    batches = reviews.batches(test, options, width=50)
    accuracy = train.evaluate(loss, params, batches, mesh=options.mesh())["accuracy"]
    if options.test:
        console.print(f"Test Accuracy: {accuracy:.3f}")
    console.print(f"Test accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(SentimentOptions))
