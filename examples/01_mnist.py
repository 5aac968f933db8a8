"""Digit classification, row by row: Dense 128, LSTM(128), Dense 10, trained with Adam on softmax cross-entropy.

An image is a sequence of 28 steps with 28 pixels each. With `--permuted` it is a sequence of 784 single pixels in a random order
(Le, Jaitly & Hinton 2015, https://arxiv.org/abs/1504.00941). Needs `pip install "jlstm[examples]"`. `--dataset digits` needs no
download.

    python examples/01_mnist.py --epochs 10          ten passes over the training images
    python examples/01_mnist.py --permuted --epochs 5
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
import tyro
from flax import linen as nn
from rich.console import Console

import jlstm
from common.options import Options, one_sentence
from common.picture import draw
from jlstm import train
from jlstm.data import Dataset, Minibatches, Split, digits, mnist
from jlstm.linen import Recurrent


@dataclass(frozen=True)
class MnistOptions(Options):
    """Train an LSTM to classify handwritten digits row by row. Save its weights and a picture."""

    dataset: Literal["mnist", "digits"] = "mnist"  # 28x28, or scikit-learn's real 8x8 digits, which need no download
    permuted: bool = False  # one pixel per step, in the same random order for all images, instead of one row per step
    epochs: int | None = None  # passes over the training images, each followed by a test; uses a cosine learning rate schedule
    steps: int | None = None  # training steps instead of epochs (300 if neither is given), with a log line every 20 steps
    seeds: int = 1  # number of runs, with seeds from --seed upwards; the first run is saved and gives the last line
    out: Path = Path("results/mnist")  # folder for checkpoints, history, weights.safetensors and picture.png


class Classifier(nn.Module):
    """A classifier of images with one LSTM layer."""

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jlstm.LSTMCarry]:
        """Return the logits and the last carry of the LSTM.

        Args:
            images: Images of shape (batch, rows, columns). Each row is one time step. With one column, there is no dense layer
                before the LSTM.

        Returns:
            Logits of shape (batch, 10), and the carry.
        """
        is_permuted = images.shape[-1] == 1  # 784 steps: recompute activations (remat) to save memory
        xs = images if is_permuted else nn.Dense(128, name="project")(images)
        carry, ys = Recurrent(jlstm.LSTM(128, remat=is_permuted), name="lstm")(xs)
        return nn.Dense(10, name="classify")(ys[:, -1]), carry


forward = jax.jit(lambda params, images: Classifier().apply({"params": params}, images))


def loss_fn(params: Any, split: Split, key: jax.Array | None, carry: None) -> train.Outcome:
    """Return the softmax cross-entropy of each image, and whether its most likely digit is correct."""
    logits, _ = forward(params, split.images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, split.labels)
    return train.Outcome(losses, {"accuracy": logits.argmax(-1) == split.labels}, carry)


def predict(params: Any, split: Split) -> np.ndarray:
    """Return the most likely digit of every image, computed in parts of about 1,000 images."""
    parts = np.array_split(split.images, max(1, len(split.images) // 1000))
    return np.concatenate([forward(params, part)[0].argmax(-1) for part in parts])


def permute(dataset: Dataset) -> Dataset:
    """Return images as columns of single pixels, in the same random order for all images."""
    count = dataset.test.images[0].size
    order = np.random.default_rng(0).permutation(count)
    return Dataset(*(split._replace(images=split.images.reshape(-1, count)[:, order, None]) for split in dataset))


def learn(dataset: Dataset, options: MnistOptions, console: Console) -> tuple[Any, list[tuple]]:
    """Train with one seed. Return the parameters and the learning curve: (step, train accuracy, test accuracy or NaN)."""
    batches = Minibatches(dataset.train, options.batch, options.seed)
    test = Minibatches(dataset.test, options.batch)
    total = options.epochs * len(batches) if options.epochs else options.steps or 300
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, total) if options.epochs else 1e-3)
    params = Classifier().init(jax.random.key(options.seed), dataset.train.images[:1])["params"]

    def report(record: train.Record, _: Any) -> None:
        name = f"Epoch {record.epoch:g}" if options.epochs else f"Step {record.step}"
        ending = f", test accuracy {record.validation['accuracy']:.4f}" if record.validation else ""
        console.print(f"{name}: train accuracy {record.train['accuracy']:.4f}, loss {record.train['loss']:.4f}{ending}")

    recording = {"validation": test} if options.epochs else {"every": 20}
    run = replace(options, steps=total, epochs=None)
    result = run.fit(loss_fn, params, optimizer, batches, callbacks=[report], **recording)
    points = [(record.step, record.train["accuracy"], record.validation.get("accuracy", np.nan)) for record in result.history]
    points[-1] = (*points[-1][:2], train.evaluate(loss_fn, result.params, test)["accuracy"])
    return result.params, points


def main(options: MnistOptions) -> None:
    """Train, evaluate and save the weights and a picture."""
    options.prepare()
    dataset = digits() if options.dataset == "digits" else mnist(options.data_dir)
    original_test, dataset = dataset.test, permute(dataset) if options.permuted else dataset
    console, accuracies = Console(highlight=False, soft_wrap=True), []
    for seed in range(options.seed, options.seed + options.seeds):
        folder = options.out if seed == options.seed else options.out / f"seed_{seed}"
        params, curve = learn(dataset, replace(options, seed=seed, out=folder), console)
        accuracies.append(curve[-1][-1])
        console.print(f"Seed {seed}: test accuracy {accuracies[-1]:.4f}")
        if seed == options.seed:
            jlstm.save(options.out / "weights.safetensors", params)
            draw(options.out / "picture.png", curve, original_test, predict(params, dataset.test))
    if options.seeds > 1:
        console.print(f"Mean of {options.seeds} seeds: {np.mean(accuracies):.4f} ± {np.std(accuracies, ddof=1):.4f}")
    console.print(f"Weights and picture are in {options.out}")
    console.print(f"Test accuracy: {accuracies[0]:.4f}")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(MnistOptions))
