"""Language modeling with a two-layer LSTM: words of the Penn Treebank, or characters of Shakespeare.

Network and training follow Zaremba, Sutskever & Vinyals 2014 (https://arxiv.org/abs/1409.2329): dropout on non-recurrent
connections only, streams of text cut into windows that pass on their carry, the loss summed over the steps of a window, and SGD
with a decaying learning rate.

    python examples/04_language_model.py                            the small network on Penn Treebank, 13 epochs
    python examples/04_language_model.py --size medium --epochs 2
    python examples/04_language_model.py --dataset shakespeare      characters, with a sample of generated text
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.console import Console

import jlstm
from common.language_sizes import SIZES, schedule
from common.options import Options, one_sentence
from jlstm import plot, train
from jlstm.data import Corpus, Window, Windows, ptb, shakespeare
from jlstm.models import LanguageModel, generate


@dataclass(frozen=True)
class LanguageOptions(Options):
    """Train a language model. Print its perplexity after each epoch and on the test text, and a sample."""

    dataset: Literal["ptb", "shakespeare"] = "ptb"  # words of the Penn Treebank, or characters of Shakespeare
    size: Literal["small", "medium", "large"] = "small"  # size of the network, with its training options
    epochs: int | None = None  # passes over the text; the default depends on --size
    batch: int | None = None  # parallel streams of text; the default depends on --size
    tied: bool = False  # use the embedding as the output matrix (Press & Wolf 2017)
    variational: bool = False  # use one dropout mask per window (Gal & Ghahramani 2016)
    sample: int = 60  # words to generate at the end, or eight times as many characters
    temperature: float = 0.8  # sampling temperature: 0 takes the most likely token, 1 samples from the model
    out: Path = Path("results/language_model")  # folder for checkpoints, history, weights.safetensors and picture.png

    def prepare(self) -> None:
        """Check also the options that are used only after training."""
        if self.sample < 1 or self.temperature < 0:
            raise ValueError(
                f"--sample must be at least 1 and --temperature at least 0, got {self.sample} and {self.temperature}"
            )
        super().prepare()


def loss_fn(model: LanguageModel, params: Any, window: Window, key: jax.Array | None, carry: Any) -> train.Outcome:
    """Return the cross-entropy in nats, summed over the steps of a window, and the number of tokens."""
    logits, carry = model.apply({"params": params}, window.inputs, carry, key=key)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets) * window.mask
    return train.Outcome(nats.sum(1), {"tokens": window.mask.sum(1)}, carry)


def perplexity(means: dict[str, float]) -> float:
    """Return the exponential of the mean cross-entropy per token."""
    return float(np.exp(means["loss"] / means["tokens"]))


def text(model: LanguageModel, params: Any, corpus: Corpus, options: LanguageOptions) -> str:
    """Return the beginning of the test text, continued by the model."""
    count = 10 if options.dataset == "ptb" else 40
    length = options.sample if options.dataset == "ptb" else 8 * options.sample
    prompt = jnp.asarray(corpus.test[None, :count])
    tokens = generate(model, params, jax.random.key(options.seed), prompt, length, options.temperature)
    separator = " " if options.dataset == "ptb" else ""
    return separator.join(corpus.vocabulary[token] for token in np.concatenate([prompt[0], tokens[0]])).replace("<eos>", "\n")


def draw(path: Path, history: list[train.Record]) -> None:
    """Save a plot of the perplexity over the steps."""
    parts = ("train", "validation")
    curve = [record._replace(**{part: {"perplexity": perplexity(getattr(record, part))} for part in parts}) for record in history]
    ax = plot.curves(curve, "perplexity")
    ax.set_yscale("log")
    ax.figure.savefig(path, dpi=110)


def main(options: LanguageOptions) -> None:
    """Train, evaluate, save the weights and a picture, and print a sample."""
    options.prepare()
    console, size = Console(highlight=False, soft_wrap=True), SIZES[options.dataset, options.size]
    options = replace(options, epochs=options.epochs or size.epochs, batch=options.batch or size.batch)
    corpus = ptb(options.data_dir) if options.dataset == "ptb" else shakespeare(options.data_dir)
    batches, validation = (Windows(part, options.batch, size.steps) for part in (corpus.train, corpus.valid))
    choices = {"dropout": size.dropout, "init_scale": size.init_scale, "tied": options.tied, "variational": options.variational}
    model = LanguageModel(len(corpus.vocabulary), size.units, **choices)
    optimizer = optax.chain(optax.clip_by_global_norm(size.clip), optax.sgd(schedule(size, len(batches))))

    def report(record: train.Record, _: Any) -> None:
        figures = ", ".join(f"{part} perplexity {perplexity(getattr(record, part)):.1f}" for part in ("train", "validation"))
        console.print(f"Epoch {record.epoch:.3g}/{options.epochs}: {figures} ({record.seconds:.0f} s)")

    params = model.init(jax.random.key(options.seed), corpus.train[None, :1])["params"]
    loss = partial(loss_fn, model)
    console.print(f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters, {len(batches):,} steps an epoch")
    result = options.fit(loss, params, optimizer, batches, validation=validation, begin=model.initial_carry, callbacks=[report])
    jlstm.save(options.out / "weights.safetensors", result.best)
    draw(options.out / "picture.png", result.history)
    console.print(f"\n{text(model, result.best, corpus, options)}\n")
    test_means = train.evaluate(loss, result.best, Windows(corpus.test, options.batch, size.steps), begin=model.initial_carry)
    console.print(f"Weights and picture are in {options.out}")
    console.print(f"Test perplexity: {perplexity(test_means):.1f}")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(LanguageOptions))
