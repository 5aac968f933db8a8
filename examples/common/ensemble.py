"""An ensemble of networks with the interface of a single one."""

from dataclasses import dataclass
from typing import Any

import jax
from flax import linen as nn


@dataclass(frozen=True)
class Ensemble:
    """An ensemble that averages the logits of networks with the same architecture (Hansen & Salamon 1990)."""

    model: nn.Module

    def apply(self, variables: dict[str, Any], *args: Any, **options: Any) -> jax.Array:
        """Return the mean of `model.apply` over the members. `variables["params"]` is a sequence of parameters."""
        members = variables["params"]
        return sum(self.model.apply({"params": params}, *args, **options) for params in members) / len(members)
