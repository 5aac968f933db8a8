"""What most cells share: the checks of their options, zeros to begin with, and dropout masks of x and h."""

from dataclasses import fields
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm import checks
from jlstm.activations import Activation, activation
from jlstm.cell import Cell, Noise, Params, PyTree
from jlstm.cells.tuples import HiddenCarry
from jlstm.dropout import bernoulli_masks
from jlstm.initializers import Initializer, initializer


class StandardCell(Cell):
    """A cell that begins with zeros, and whose context is dropout masks, if anything.

    A subclass with another carry than `h` sets `carry_type` and `carry_shapes`. One with dropout has the options `dropout` and
    `recurrent_dropout`, and sets `mask_sizes` and `mask_gates`.
    """

    carry_type: ClassVar[Any] = HiddenCarry
    dropout: float = 0.0  # replaced by the options of these names, where a cell has them
    recurrent_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check each option by the type that it is declared with, and store numbers as int and float."""
        for option in fields(cast(Any, self)):
            name, value = option.name, getattr(self, option.name)
            if option.type is int:
                self._store(**{name: checks.positive(name, value)})
            elif option.type is bool:
                checks.flag(name, value)
            elif option.type is Initializer:
                initializer(value)
            elif option.type is Activation:
                activation(value)
        self._store(**{name: checks.rate(name, getattr(self, name)) for name in ("dropout", "recurrent_dropout")})

    @property
    def stochastic(self) -> bool:
        """Whether there is dropout."""
        return bool(self.dropout or self.recurrent_dropout)

    @property
    def mask_gates(self) -> int:
        """The number of gates, each of which has dropout masks of its own with recurrent dropout; 1 if they share them."""
        return 1

    def carry_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the arrays of one sequence's carry."""
        return ((self.features_out,),)

    def mask_sizes(self, params: Params) -> dict[str, int | tuple[int, ...]]:
        """The sizes of what each dropout mask is multiplied with, by the name of the mask; none without dropout."""
        return {}

    def begin(
        self,
        params: Params,
        batch_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        noise: Noise | None = None,
    ) -> tuple[PyTree, Noise]:
        """Return zeros, and the dropout masks as context.

        The masks have the shape (gates, *batch, *size), with gates 1, for one mask that all gates share, or `mask_gates`.
        """
        carry = self.carry_type(*(jnp.zeros((*batch_shape, *shape), dtype) for shape in self.carry_shapes()))
        sizes = self.mask_sizes(params)
        if noise is not None:
            return carry, checks.noise(noise, gates=self.mask_gates, batch_shape=batch_shape, sizes=sizes, dtype=dtype)
        gates = self.mask_gates if self.recurrent_dropout else 1
        shapes = {name: (gates, *batch_shape, *(size if isinstance(size, tuple) else (size,))) for name, size in sizes.items()}
        return carry, bernoulli_masks(key, {"inputs": self.dropout, "recurrent": self.recurrent_dropout}, shapes, dtype)
