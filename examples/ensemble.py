"""Several networks as one."""

from dataclasses import dataclass
from typing import Any

import jax
from flax import linen as nn


@dataclass(frozen=True)
class Ensemble:
    """Networks of one kind, whose logits are averaged (Hansen and Salamon 1990)."""

    model: nn.Module

    def apply(self, variables: dict[str, Any], *args: Any, **options: Any) -> jax.Array:
        """The mean of what `model.apply` returns, over a sequence of parameters."""
        members = variables["params"]
        return sum(self.model.apply({"params": params}, *args, **options) for params in members) / len(members)
