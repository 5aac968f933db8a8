"""The table of a model: its parts, their output shapes, their parameters."""

from typing import Any

import jax
from flax import linen as nn


def summary(module: nn.Module, *inputs: Any, **kwargs: Any) -> str:
    """Return the table that Keras users know: each part's output shape and number of parameters, and the total."""
    return module.tabulate(
        jax.random.key(0), *inputs, console_kwargs={"width": 100, "force_terminal": False, "color_system": None}, **kwargs
    )
