"""Symmetric uniform initializer, as used by Keras embeddings and by Zaremba et al. 2014."""

from dataclasses import dataclass

import jax
from jaxtyping import Array

from jlstm._src import checks


@dataclass(frozen=True)
class Uniform:
    """An initializer that draws from [-scale, scale).

    Instances with the same scale are equal, and so are layers made with them.

    Args:
        scale: Half the width of the distribution. Keras's "uniform" uses 0.05.

    Raises:
        TypeError: `scale` is not a number.

    Examples:
        >>> import jax
        >>> from jlstm.models import Uniform
        >>> weights = Uniform(0.05)(jax.random.key(0), (1000,), "float32")
        >>> bool(abs(weights).max() <= 0.05), bool(weights.min() < 0)
        (True, True)
    """

    scale: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", checks.number("scale", self.scale))

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = "float32") -> Array:
        """Return a random array of the given shape and dtype."""
        return jax.random.uniform(key, shape, dtype, -self.scale, self.scale)
