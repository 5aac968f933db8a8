"""Translation of short texts, character by character, with attention: an encoder, a decoder, and a beam search.

A bidirectional LSTM reads a text. An LSTM with attention writes another one. It is trained with the right text as its input
(teacher forcing), and writes new texts by greedy search and by beam search. The task `reverse` is to write random letters in
reverse order; `dates` is to write a date such as "tuesday, 3 march 1998" as "1998-03-03". The texts for testing never occur in
training. Needs `pip install "jlstm[examples]"` and no data.

    python examples/07_translation.py
    python examples/07_translation.py --task reverse --score multiplicative
    python examples/07_translation.py --predict "3rd of march 1998"     translate a text with the network in --out
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
import tyro
from matplotlib.figure import Figure

import jlstm
from common.options import Options, one_sentence
from common.translation_tasks import Pairs, Translations, pairs, sizes, text, tokens
from common.translator import Translator
from jlstm import plot, train


@dataclass(frozen=True)
class TranslationOptions(Options):
    """Train an encoder and a decoder with attention. Print the share of right texts, and save a picture of the attention."""

    task: Literal["dates", "reverse"] = "dates"  # the task to learn
    score: Literal["additive", "multiplicative"] = "additive"  # the score of the attention
    length: int = 12  # largest number of letters (reverse)
    units: int = 64  # units of the decoder, and of both directions of the encoder together
    beams: int = 4  # width of the beam search
    test: int = 1000  # number of texts for testing
    lr: float = 0.005  # initial learning rate of Adam, with a cosine schedule
    batch: int = 64  # texts per step, new ones at every step
    epochs: int = 6  # epochs of 100 steps
    predict: str | None = None  # translate this text with the weights in --out, without training
    out: Path = Path("results/translation")  # folder for checkpoints, history, weights.safetensors and picture.png

    def prepare(self) -> None:
        """Check also the options of this example."""
        if min(self.length, self.beams, self.test) < 1 or self.units < 2 or self.units % 2 or self.lr <= 0:
            raise ValueError("--length, --beams and --test must be at least 1, --units even and at least 2, and --lr more than 0")
        super().prepare()

    @property
    def translator(self) -> Translator:
        """The network."""
        return Translator(self.units, self.score)


def translations(params: Any, source: np.ndarray, lengths: np.ndarray, options: TranslationOptions, width: int) -> list[str]:
    """Return the best text that a search of this width finds for each source."""
    _, longest = sizes(options.task, options.length)
    search = jax.jit(partial(options.translator.translate, width=width, length=longest))
    return [text(np.asarray(beams[0])) for beams in search(params, source, lengths).tokens]


def accuracy(written: list[str], texts: list[tuple[str, str]]) -> float:
    """Return the share of texts that are right from the first to the last character."""
    return float(np.mean([right == translated for (_, right), translated in zip(texts, written, strict=True)]))


def draw(path: Path, params: Any, test: Pairs, texts: list[tuple[str, str]], options: TranslationOptions) -> None:
    """Save a picture of the attention for the first two texts for testing."""
    shown = Pairs(*(array[:2] for array in test))
    _, weights = jax.jit(options.translator.logits)(params, shown)
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    for ax, matrix, (source, target) in zip(np.ravel(figure.subplots(1, len(weights))), weights, texts, strict=False):
        plot.attention(np.asarray(matrix), list(source), [*target, "end"], ax=ax)
        ax.set(xlabel="source", ylabel="target")
    figure.savefig(path, dpi=110)


def predict(options: TranslationOptions) -> None:
    """Print the translations of one text, the likeliest one first, with their probabilities."""
    translator, (longest, longest_target) = options.translator, sizes(options.task, options.length)
    shapes = jax.eval_shape(translator.init, jax.random.key(0))
    source = tokens(options.predict, longest)[None]
    params = jlstm.load(options.out / "weights.safetensors", like=shapes)
    search = partial(translator.translate, width=options.beams, length=longest_target)
    found = jax.jit(search)(params, source, np.array([len(options.predict)]))
    for sequence, log_prob in zip(found.tokens[0], found.log_probs[0], strict=True):
        print(f"{text(np.asarray(sequence))} ({np.exp(log_prob):.4f})")


def main(options: TranslationOptions) -> None:
    """Train and test, or translate a text."""
    options.prepare()
    if options.predict is not None:
        predict(options)
        return
    translator, batches = options.translator, Translations(options.task, options.length, options.batch, options.seed)
    test, texts = pairs(options.task, np.random.default_rng(0), options.test, options.length, held_out=True)
    rate = optax.cosine_decay_schedule(options.lr, options.steps or options.epochs * len(batches))
    optimizer = optax.chain(optax.clip_by_global_norm(1), optax.adam(rate))

    def report(record: train.Record, _: Any) -> None:
        means = record.train
        print(
            f"Epoch {record.epoch:.3g}: loss {means['loss']:.3f}, {means['right']:.1%} right ({record.seconds:.1f} s)", flush=True
        )

    params = translator.init(jax.random.key(options.seed))
    params = options.fit(translator.loss, params, optimizer, batches, callbacks=[report]).params
    jlstm.save(options.out / "weights.safetensors", params)
    draw(options.out / "picture.png", params, test, texts, options)
    greedy, searched = (translations(params, test.source, test.lengths, options, width) for width in (1, options.beams))
    for (source, _), translated in zip(texts[:3], searched, strict=False):
        print(f"{source} → {translated}")
    print(f"Weights and picture are in {options.out}")
    print(f"Test accuracy: greedy {accuracy(greedy, texts):.4f}, beam search {accuracy(searched, texts):.4f}")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(TranslationOptions))
