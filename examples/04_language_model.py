"""Language modeling with a two-layer LSTM: words of the Penn Treebank, or characters of Shakespeare.

Network and training follow Zaremba, Sutskever & Vinyals 2014 (https://arxiv.org/abs/1409.2329): dropout on non-recurrent
connections only, streams of text cut into windows that pass on their carry, the loss summed over the steps of a window, and SGD
with a decaying learning rate. The size "awd" is the network of Merity, Keskar & Socher 2018 (https://arxiv.org/abs/1708.02182).

    python examples/04_language_model.py                            the small network on Penn Treebank, 13 epochs
    python examples/04_language_model.py --size medium --epochs 2
    python examples/04_language_model.py --cache 500                test with a neural cache of the last 500 words too
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
from common.language_sizes import SIZES, Size, schedule
from common.options import Options, one_sentence
from jlstm import plot, train
from jlstm.data import Corpus, Window, Windows, ptb, shakespeare
from jlstm.models import LanguageModel, NeuralCache, activation_penalty, generate


@dataclass(frozen=True)
class LanguageOptions(Options):
    """Train a language model. Print its perplexity after each epoch and on the test text, and a sample."""

    dataset: Literal["ptb", "shakespeare"] = "ptb"  # words of the Penn Treebank, or characters of Shakespeare
    size: Literal["small", "medium", "large", "awd"] = "small"  # size of the network, with its training options
    epochs: int | None = None  # passes over the text; the default depends on --size
    batch: int | None = None  # parallel streams of text; the default depends on --size
    tied: bool = False  # use the embedding as the output matrix (Press & Wolf 2017)
    variational: bool = False  # use one dropout mask per window (Gal & Ghahramani 2016)
    cache: int | None = None  # test also with a neural cache of so many tokens (Grave, Joulin & Usunier 2017)
    sample: int = 60  # words to generate at the end, or eight times as many characters
    temperature: float = 0.8  # sampling temperature: 0 takes the most likely token, 1 samples from the model
    out: Path = Path("results/language_model")  # folder for checkpoints, history, weights.safetensors and picture.png

    def prepare(self) -> None:
        """Check also the options that are used only after training."""
        if self.sample < 1 or self.temperature < 0:
            raise ValueError(
                f"--sample must be at least 1 and --temperature at least 0, got {self.sample} and {self.temperature}"
            )
        if (self.dataset, self.size) not in SIZES:
            raise ValueError(f"--size {self.size} is for --dataset ptb: choose small, medium or large")
        if self.cache is not None and self.cache < 1:
            raise ValueError(f"--cache must be at least 1, got {self.cache}")
        super().prepare()


def run(model: LanguageModel, params: Any, window: Window, key: jax.Array | None, carry: Any) -> tuple[Any, Any, Any, Any]:
    """Return the logits, the carry, and the outputs of the last LSTM without and with dropout."""
    variables = {"params": params}
    (logits, carry), state = model.apply(variables, window.inputs, carry, key=key, mutable="intermediates")
    return logits, carry, state["intermediates"]["outputs"][0], state["intermediates"]["dropped"][0]


def loss_fn(
    model: LanguageModel, penalized: bool, params: Any, window: Window, key: jax.Array | None, carry: Any
) -> train.Outcome:
    """Return the loss and the cross-entropy in nats, both summed over the steps of a window, and the number of tokens."""
    logits, carry, outputs, dropped = run(model, params, window, key, carry)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets)
    losses = nats + activation_penalty(outputs, dropped) if penalized and key is not None else nats
    sums = [(value * window.mask).sum(1) for value in (losses, nats)]
    return train.Outcome(sums[0], {"nats": sums[1], "tokens": window.mask.sum(1)}, carry)


def cached_loss(
    model: LanguageModel, cache: NeuralCache, params: Any, window: Window, key: jax.Array | None, carry: Any
) -> train.Outcome:
    """Return the same as `loss_fn`, for predictions with a neural cache. The carry is that of the model, and the memory."""
    logits, model_carry, outputs, _ = run(model, params, window, key, carry[0])
    log_probs, memory = cache(carry[1], logits, outputs, window.targets)
    nats = -jnp.take_along_axis(log_probs, window.targets[..., None], 2)[..., 0] * window.mask
    return train.Outcome(nats.sum(1), {"nats": nats.sum(1), "tokens": window.mask.sum(1)}, (model_carry, memory))


def perplexity(means: dict[str, float]) -> float:
    """Return the exponential of the mean cross-entropy per token."""
    return float(np.exp(means["nats"] / means["tokens"]))


def optimizer_of(size: Size, steps: int) -> optax.GradientTransformation:
    """Return the optimizer of a network, for epochs of `steps` steps."""
    sgd = [optax.clip_by_global_norm(size.clip), optax.add_decayed_weights(size.weight_decay), optax.sgd(schedule(size, steps))]
    optimizer = optax.chain(*sgd)
    return optimizer if size.averaged_from is None else train.averaged(optimizer, start=size.averaged_from * steps)


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
    model = LanguageModel(len(corpus.vocabulary), size.units, **(choices | dict(size.model)))
    optimizer = optimizer_of(size, len(batches))
    evaluation_params = None if size.averaged_from is None else train.averaged_params

    def report(record: train.Record, _: Any) -> None:
        figures = ", ".join(f"{part} perplexity {perplexity(getattr(record, part)):.1f}" for part in ("train", "validation"))
        console.print(f"Epoch {record.epoch:.3g}/{options.epochs}: {figures} ({record.seconds:.0f} s)")

    params = model.init(jax.random.key(options.seed), corpus.train[None, :1])["params"]
    loss = partial(loss_fn, model, size.penalized)
    console.print(f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters, {len(batches):,} steps an epoch")
    arguments = {"validation": validation, "begin": model.initial_carry, "callbacks": [report]}
    result = options.fit(loss, params, optimizer, batches, evaluation_params=evaluation_params, **arguments)
    jlstm.save(options.out / "weights.safetensors", result.best)
    draw(options.out / "picture.png", result.history)
    console.print(f"\n{text(model, result.best, corpus, options)}\n")
    test_means = train.evaluate(loss, result.best, Windows(corpus.test, options.batch, size.steps), begin=model.initial_carry)
    console.print(f"Weights and picture are in {options.out}")
    if options.cache:
        cache = NeuralCache(options.cache)

        def begin(count: int) -> Any:
            return model.initial_carry(count), cache.initial_memory(count, model.sizes[-1])

        whole_text = Windows(corpus.test, 1, size.steps)
        cached_means = train.evaluate(partial(cached_loss, model, cache), result.best, whole_text, begin=begin)
        console.print(f"Test perplexity with a cache of the last {options.cache} tokens: {perplexity(cached_means):.1f}")
    console.print(f"Test perplexity: {perplexity(test_means):.1f}")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(LanguageOptions))
