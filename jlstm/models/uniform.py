"""The symmetric uniform distribution that Keras' embeddings and Zaremba's language models start from."""

from dataclasses import dataclass

import jax
from jaxtyping import Array

from jlstm import checks


@dataclass(frozen=True)
class Uniform:
    """An initialiser that draws from [-scale, scale). Two of one scale are equal, so that layers made with them are too.

    Args:
        scale: half the width of the distribution; 0.05 is what Keras calls "uniform".

    Raises:
        TypeError: a scale that is no number.

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
        """Draw an array of this shape and dtype."""
        return jax.random.uniform(key, shape, dtype, -self.scale, self.scale)
