"""Predict the next word of the Wall Street Journal, or the next letter of Shakespeare, with a two-layer LSTM.

The network and its training are those of Zaremba, Sutskever & Vinyals 2014: dropout on non-recurrent connections only, streams
of text cut into windows whose state is handed on, the loss summed over a window's steps, SGD whose learning rate decays.

    python examples/04_language_model.py                            the small network on Penn Treebank, 13 epochs
    python examples/04_language_model.py --size medium --epochs 2
    python examples/04_language_model.py --dataset shakespeare      letters, and a page of new Shakespeare
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
from language_sizes import SIZES, schedule
from options import Options, one_sentence
from rich.console import Console

import jlstm
from jlstm import plot, train
from jlstm.data import Corpus, Window, Windows, ptb, shakespeare
from jlstm.models import LanguageModel, generate


@dataclass(frozen=True)
class LanguageOptions(Options):
    """Train a language model; print its perplexity after each epoch and on the test text, and what it writes itself."""

    dataset: Literal["ptb", "shakespeare"] = "ptb"  # words of the Penn Treebank, or letters
    size: Literal["small", "medium", "large"] = "small"  # of the network, with the training that goes with it
    epochs: int | None = None  # passes over the text; without it as many as go with the size
    batch: int | None = None  # streams of text side by side; without it as many as go with the size
    tied: bool = False  # whether the output layer is the embedding (Press & Wolf 2017)
    variational: bool = False  # whether a dropout mask stays for a whole window (Gal & Ghahramani 2016)
    sample: int = 60  # words, or eight times as many letters, to write at the end
    temperature: float = 0.8  # of the sampling: 0 writes the likeliest only, 1 as varied as the model believes
    out: Path = Path("results/language_model")  # folder for checkpoints, history, weights.safetensors and picture.png

    def prepare(self) -> None:
        """Check what is needed only after training, too."""
        if self.sample < 1 or self.temperature < 0:
            raise ValueError(
                f"--sample must be at least 1 and --temperature at least 0, got {self.sample} and {self.temperature}"
            )
        super().prepare()


def loss_fn(model: LanguageModel, params: Any, window: Window, key: jax.Array | None, carry: Any) -> train.Outcome:
    """Cross-entropy in nats, summed over the window's steps."""
    logits, carry = model.apply({"params": params}, window.inputs, carry, key=key)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets) * window.mask
    return train.Outcome(nats.sum(1), {"tokens": window.mask.sum(1)}, carry)


def perplexity(means: dict[str, float]) -> float:
    """e to the mean of the cross-entropy per token."""
    return float(np.exp(means["loss"] / means["tokens"]))


def text(model: LanguageModel, params: Any, corpus: Corpus, options: LanguageOptions) -> str:
    """What the model writes after the first words, or letters, of the test text."""
    count = 10 if options.dataset == "ptb" else 40
    length = options.sample if options.dataset == "ptb" else 8 * options.sample
    prompt = jnp.asarray(corpus.test[None, :count])
    tokens = generate(model, params, jax.random.key(options.seed), prompt, length, options.temperature)
    between = " " if options.dataset == "ptb" else ""
    return between.join(corpus.vocabulary[token] for token in np.concatenate([prompt[0], tokens[0]])).replace("<eos>", "\n")


def draw(path: Path, history: list[train.Record]) -> None:
    """Save the picture of perplexity by step."""
    parts = ("train", "validation")
    curve = [record._replace(**{part: {"perplexity": perplexity(getattr(record, part))} for part in parts}) for record in history]
    ax = plot.curves(curve, "perplexity")
    ax.set_yscale("log")
    ax.figure.savefig(path, dpi=110)


def main(options: LanguageOptions) -> None:
    """Train, evaluate, write."""
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
    tested = train.evaluate(loss, result.best, Windows(corpus.test, options.batch, size.steps), begin=model.initial_carry)
    console.print(f"Weights and picture are in {options.out}")
    console.print(f"Test perplexity: {perplexity(tested):.1f}")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(LanguageOptions))
