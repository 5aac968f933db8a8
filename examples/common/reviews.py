"""Data, loss and text classification for both IMDB examples."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from common.options import Options
from jlstm import plot, train
from jlstm.data import Bucketed, Buckets, Minibatches, Reviews, encode, imdb, imdb_word_index, pad, words
from jlstm.models import SequenceClassifier

UNKNOWN = 2


@dataclass(frozen=True)
class ReviewOptions(Options):
    """Options of both IMDB examples."""

    words: int = 5_000  # size of the vocabulary: the most frequent words
    length: int = 300  # words kept of a review: the last ones
    reviews: int | None = None  # use only this many training and test reviews, for a quick test
    word_dropout: float = 0.0  # share of the words that are replaced by the unknown word in training (Iyyer et al. 2015)
    predict: str | None = None  # a text to classify with the weights in --out, instead of training

    def prepare(self) -> None:
        """Check also the options that these examples add."""
        for name, least in (("words", 4), ("length", 1), ("reviews", 10)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"--{name} must be at least {least}, got {value}")
        if not 0 <= self.word_dropout < 1:
            raise ValueError(f"--word-dropout must be a share in [0, 1), got {self.word_dropout}")
        if self.predict is not None and not words(self.predict):
            raise ValueError("--predict needs a text with at least one word")
        super().prepare()


def load(options: ReviewOptions, share: float) -> tuple[Reviews, Reviews, Reviews]:
    """Return reviews for training, validation and testing.

    Validation uses the last `share` of the training reviews, as in Keras.
    """
    learn, test = (part(reviews, 0, options.reviews) for reviews in imdb(options.data_dir, num_words=options.words))
    count = round(len(learn.labels) * (1 - share))
    return part(learn, 0, count), part(learn, count), test


def part(reviews: Reviews, start: int, end: int | None = None) -> Reviews:
    """Return the reviews from index `start` up to `end`."""
    return Reviews(reviews.tokens.take(slice(start, end)), reviews.labels[start:end])


def batches(reviews: Reviews, options: ReviewOptions, width: int, seed: int | None = None) -> Buckets:
    """Return minibatches, padded in front to the next multiple of `width` words and truncated to `length` words."""
    widths = (*range(width, options.length, width), options.length)
    return Buckets(*reviews, options.batch, widths, seed, padding="pre", truncating="pre")


def loss_fn(
    model: SequenceClassifier, loss: Any, rate: float, params: Any, batch: Bucketed, key: jax.Array | None, carry: None
) -> train.Outcome:
    """Return the loss of each review and whether it is classified correctly.

    Args:
        model: The classifier.
        loss: A function `(logits, labels) -> losses`.
        rate: Share of the words to replace by the unknown word, if there is a key.
        params: Parameters of the model.
        batch: Reviews and labels.
        key: Random key for dropout and for replacing words, or None in evaluation.
        carry: None.

    Returns:
        The outcome, with the metric `accuracy`.
    """
    tokens = batch.tokens
    if key is not None and rate:
        key, draw = jax.random.split(key)
        tokens = jax.numpy.where((tokens > UNKNOWN) & jax.random.bernoulli(draw, rate, tokens.shape), UNKNOWN, tokens)
    logits = model.apply({"params": params}, tokens, key=key)
    return train.Outcome(loss(logits, batch.labels.astype(logits.dtype)), {"accuracy": (logits > 0) == (batch.labels > 0)}, carry)


def judge(text: str, model: SequenceClassifier, params: Any, options: ReviewOptions, console: Console) -> None:
    """Print and plot the score after each word of a text, and print the verdict."""
    names, scores = curve(text, model, params, options)
    for name, score in zip(names, scores, strict=True):
        console.print(f"{score:.2f} {'━' * round(40 * score):<40} {name}", markup=False)
    ax = plot.scores(names, scores, label="share of praise")
    ax.figure.savefig(path := options.out / "scores.png", dpi=110)
    console.print(f"The picture is {path}. Words in brackets are unknown to the network.")
    console.print(f"Verdict: {'positive' if scores[-1] > 0.5 else 'negative'} ({scores[-1]:.3f})")


def curve(text: str, model: SequenceClassifier, params: Any, options: ReviewOptions) -> tuple[list[str], np.ndarray]:
    """Return the words of a text and the score in [0, 1] of the text up to each word. Unknown words are in brackets."""
    tokens = encode(text, imdb_word_index(options.data_dir), num_words=options.words)
    names = [f"({word})" if token == UNKNOWN else word for word, token in zip(words(text), tokens[1:], strict=True)]
    beginnings = pad([tokens[: end + 1] for end in range(1, len(tokens))], options.length)
    score = jax.jit(lambda rows: jax.nn.sigmoid(model.apply({"params": params}, rows)))
    scores = [score(batch.examples) for batch in Minibatches(beginnings, 64).epoch(0)]
    return names, np.concatenate(scores)[: len(names)]


def restore(model: SequenceClassifier, folder: Path, *, best: bool) -> Any:
    """Return parameters from the checkpoint of a run: the last ones, or those with the smallest validation loss."""
    like = jax.eval_shape(partial(model.init, jax.random.key(0)), np.zeros((1, 1), np.int32))["params"]
    return train.restore(folder / "checkpoints", like, best=best)
