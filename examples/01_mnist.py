"""Read handwritten digits row by row: Dense 128, LSTM(128), Dense 10, trained with Adam on softmax cross-entropy.

An image is a sequence: 28 steps of 28 pixels. Needs `pip install 'jlstm[examples]'`; with `--dataset digits` no download.

    python examples/01_mnist.py --epochs 10          ten passes over the training images
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
import tyro
from flax import linen as nn
from picture import draw
from rich.console import Console
from rich.progress import track

import jlstm
from jlstm.data import Dataset, Split, batches, digits, mnist
from jlstm.linen import Recurrent


@dataclass(frozen=True)
class Options:
    """Train an LSTM to read handwritten digits row by row; save its weights and a picture."""

    dataset: Literal["mnist", "digits"] = "mnist"  # 28x28, or scikit-learn's real 8x8 digits, which need no download
    data_dir: Path | None = None  # folder with mnist.npz; without it $JLSTM_DATA, and without that a verified download
    steps: int = 300  # training steps, with a line in the log for every 20
    epochs: int | None = None  # passes over the training images, instead of steps; the learning rate then falls along a cosine
    batch: int = 128  # images a step
    seed: int = 0  # of the initial weights and of the order of the images
    seeds: int = 1  # train this often, with seeds from --seed upwards; what is saved and the last line are the first's
    out: Path = Path("results/mnist")  # folder for weights.safetensors and picture.png


class Classifier(nn.Module):
    """Images (batch, rows, columns) to logits (batch, 10), and the LSTM's last carry."""

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jlstm.Carry]:
        """Each row of pixels is one time step."""
        xs = nn.Dense(128, name="project")(images)
        carry, ys = Recurrent(jlstm.LSTM(128), name="lstm")(xs)
        return nn.Dense(10, name="classify")(ys[:, -1]), carry


forward = jax.jit(lambda params, images: Classifier().apply({"params": params}, images))


def loss_and_accuracy(params: Any, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Softmax cross-entropy and the share of right answers, means over the batch."""
    logits, _ = forward(params, images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), (logits.argmax(-1) == labels).mean()


def predict(params: Any, split: Split) -> np.ndarray:
    """The likeliest digit of every image, computed for about a thousand at a time."""
    parts = np.array_split(split.images, max(1, len(split.images) // 1000))
    return np.concatenate([forward(params, part)[0].argmax(-1) for part in parts])


def train(dataset: Dataset, options: Options, seed: int, console: Console) -> tuple[Any, list[tuple]]:
    """Train from one seed; return the parameters and the learning curve: (step, train accuracy, test accuracy or NaN)."""
    epoch = len(dataset.train.labels) // options.batch
    total, every = (options.epochs * epoch, epoch) if options.epochs else (options.steps, 20)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, total) if options.epochs else 1e-3)
    params = Classifier().init(jax.random.key(seed), dataset.train.images[:1])["params"]

    @jax.jit
    def update(params: Any, moments: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any, tuple]:
        (loss, accuracy), grads = jax.value_and_grad(loss_and_accuracy, has_aux=True)(params, images, labels)
        changes, moments = optimizer.update(grads, moments)
        return optax.apply_updates(params, changes), moments, (loss, accuracy)

    moments, source, curve, since = optimizer.init(params), batches(dataset.train, options.batch, seed), [], []
    for step in track(range(1, total + 1), "Training", console=console, transient=True, disable=not console.is_terminal):
        params, moments, measured = update(params, moments, *next(source))
        since.append(measured)
        if step % every == 0 or step == total:
            (loss, accuracy), since = np.mean(since, axis=0), []
            test = np.mean(predict(params, dataset.test) == dataset.test.labels) if options.epochs or step == total else np.nan
            curve.append((step, accuracy, test))
            name = f"Epoch {step // every}" if options.epochs else f"Step {step}"
            ending = "" if np.isnan(test) else f", test accuracy {test:.4f}"
            console.print(f"{name}: train accuracy {accuracy:.4f}, loss {loss:.4f}{ending}")
    return params, curve


def main(options: Options) -> None:
    """Train, evaluate, save."""
    if min(n for n in (options.steps, options.epochs, options.batch, options.seeds) if n is not None) < 1:
        sys.exit("error: --steps, --epochs, --batch and --seeds must be at least 1")
    try:
        dataset = digits() if options.dataset == "digits" else mnist(options.data_dir)
        batches(dataset.train, options.batch, options.seed)
        options.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ImportError, ValueError) as error:
        sys.exit(f"error: {error}")
    console, accuracies = Console(highlight=False, soft_wrap=True), []
    for seed in range(options.seed, options.seed + options.seeds):
        params, curve = train(dataset, options, seed, console)
        accuracies.append(curve[-1][-1])
        console.print(f"Seed {seed}: test accuracy {accuracies[-1]:.4f}")
        if seed == options.seed:
            jlstm.save(options.out / "weights.safetensors", params)
            draw(options.out / "picture.png", curve, dataset.test, predict(params, dataset.test))
    if options.seeds > 1:
        console.print(f"Mean of {options.seeds} seeds: {np.mean(accuracies):.4f} ± {np.std(accuracies, ddof=1):.4f}")
    console.print(f"Weights and picture are in {options.out}")
    console.print(f"Test accuracy: {accuracies[0]:.4f}")


if __name__ == "__main__":
    main(tyro.cli(Options))
