"""Tell praise from blame in film reviews with two LSTM layers, trained with Adadelta on the squared error.

Embedding, LSTM of 128 and of 64 units with dropout on their outputs, the last output, a sigmoid. Padding is masked, and a batch
holds reviews of similar length. Needs `pip install 'jlstm[examples]'`.

    python examples/02_sentiment.py                             train; the checkpoint is in --out
    python examples/02_sentiment.py --test                      restore it in a process of its own, and test
    python examples/02_sentiment.py --predict "What a film!"    the verdict, and the score word by word
"""

from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import jax
import optax
import reviews
import tyro
from options import one_sentence
from rich.console import Console

import jlstm
from jlstm import train
from jlstm.models import SequenceClassifier


@dataclass(frozen=True)
class SentimentOptions(reviews.ReviewOptions):
    """Train the two-layer network on IMDB's reviews, or use it."""

    epochs: int = 4  # passes over the training reviews
    batch: int = 64  # reviews a step
    words: int = 10_000  # different words that are told apart, the most frequent ones
    length: int = 200  # words of a review, its last ones
    features: int = 64  # of the embedding
    keep: float = 0.75  # share of each layer's outputs that dropout keeps
    learning_rate: float = 10.0  # of Adadelta, falling along a cosine; Zeiler's is 1, Keras' and TensorFlow 1's 0.001
    rho: float = 0.95  # share that Adadelta's two means of squares keep at each step
    epsilon: float = 1e-8  # under both of Adadelta's square roots
    test: bool = False  # measure the checkpoint in --out on the test reviews instead of training
    out: Path = Path("results/sentiment")  # folder for checkpoints, history.jsonl, weights.safetensors and pictures


def network(options: SentimentOptions) -> SequenceClassifier:
    """Embed → LSTM 128 → dropout → LSTM 64 → last output that counts → dropout → Dense 1."""
    layers = (jlstm.LSTM(128), jlstm.LSTM(64))
    return SequenceClassifier(options.words, options.features, layers, dropout=1 - options.keep, masked=True)


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """(σ(logit) - label)², one for each review."""
    return (jax.nn.sigmoid(logits) - labels) ** 2


def learn(model: SequenceClassifier, options: SentimentOptions, console: Console) -> Any:
    """Train; print a line for each epoch; return the parameters with the smallest validation loss."""
    learned, validation, _ = reviews.load(options, share=0.1)
    batches = reviews.batches(learned, options, width=50, seed=options.seed)
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
    check = reviews.batches(validation, options, width=50)
    result = options.fit(loss, params, optimizer, batches, validation=check, callbacks=[report])
    jlstm.save(options.out / "weights.safetensors", result.best)
    steps, seconds = result.history[-1].step, sum(record.seconds for record in result.history)
    console.print(f"{seconds * len(batches) / steps:.1f} s an epoch; the checkpoint is in {options.out / 'checkpoints'}")
    return result.best


def main(options: SentimentOptions) -> None:
    """Train and test, or test, or judge a text."""
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
