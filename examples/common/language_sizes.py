"""Sizes and training options of the models in 04_language_model.py."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array


class Size(NamedTuple):
    """Options of a network and its training.

    The learning rate is constant for `hold` epochs. After that each epoch multiplies it by `decay`.
    """

    units: int | tuple[int, ...]
    steps: int  # steps per window
    batch: int = 20
    dropout: float = 0.0
    init_scale: float = 0.1
    epochs: int = 13
    hold: int = 4
    decay: float = 0.5
    clip: float = 5.0
    learning_rate: float = 1.0
    model: Mapping[str, Any] = MappingProxyType({})  # further options of the network
    penalized: bool = False  # whether the loss has `activation_penalty`
    weight_decay: float = 0.0
    averaged_from: int | None = None  # the epoch from which on the parameters are averaged


AWD = {
    "tied": True,
    "variational": True,
    "embedding_dropout": 0.1,
    "input_dropout": 0.4,
    "output_dropout": 0.4,
    "weight_drop": 0.5,
}
SIZES = {  # Zaremba, Sutskever & Vinyals 2014, section 4.1; "small" is their non-regularized network
    ("ptb", "small"): Size(200, 20),
    ("ptb", "medium"): Size(650, 35, dropout=0.5, init_scale=0.05, epochs=39, hold=6, decay=1 / 1.2),
    ("ptb", "large"): Size(1500, 35, dropout=0.65, init_scale=0.04, epochs=55, hold=14, decay=1 / 1.15, clip=10),
    # Merity, Keskar & Socher 2018. Their loss is the mean over the 70 steps of a window, so their learning rate of 30 is 30 / 70
    # here, and a clip of 0.25 is 0.25 · 70. They begin to average when the validation loss stops to fall.
    ("ptb", "awd"): Size(
        (1150, 1150, 400),
        steps=70,
        batch=40,
        dropout=0.25,
        epochs=500,
        hold=500,
        clip=17.5,
        learning_rate=30 / 70,
        model=AWD,
        penalized=True,
        weight_decay=1.2e-6,
        averaged_from=100,
    ),
    ("shakespeare", "small"): Size(128, 50, batch=50, epochs=10, hold=5, dropout=0.1, learning_rate=0.3),
    ("shakespeare", "medium"): Size(256, 50, batch=50, epochs=20, hold=10, dropout=0.3, learning_rate=0.3),
    ("shakespeare", "large"): Size(512, 100, batch=50, epochs=40, hold=20, decay=0.8, dropout=0.5, learning_rate=0.3),
}


def schedule(size: Size, steps: int) -> Callable[[Array], Array]:
    """Return the learning rate as a function of the step, for epochs of `steps` steps."""
    return lambda step: size.learning_rate * size.decay ** jnp.maximum(step // steps + 1 - size.hold, 0)
