"""The base class of most cells: it checks the options, starts from zeros, and draws dropout masks for x and h."""

import abc
from dataclasses import fields
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm._src import checks
from jlstm._src.dropout import bernoulli_masks
from jlstm.activations import Activation, activation
from jlstm.cell import Cell, DropoutMasks, Params, PyTree
from jlstm.cells.tuples import HiddenCarry
from jlstm.initializers import Initializer, initializer


class StandardCell(Cell):
    """A cell whose initial carry is zero and whose context is a dict of dropout masks.

    A subclass whose carry is more than `h` sets `carry_type` and `carry_shapes`. A subclass with dropout has the options
    `dropout` and `recurrent_dropout`, and sets `mask_sizes` and `mask_gates`.
    """

    carry_type: ClassVar[Any] = HiddenCarry
    dropout: float = 0.0  # a cell with dropout declares options of the same names
    recurrent_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check each option by its declared type, and store numbers as int and float."""
        for option in fields(cast(Any, self)):
            name, value = option.name, getattr(self, option.name)
            # `option.type` is the annotation itself, not a string: these modules do not postpone the evaluation of annotations.
            if option.type is int:
                self._store(**{name: checks.positive(name, value)})
            elif option.type is bool:
                checks.flag(name, value)
            elif option.type is Initializer:
                initializer(value)
            elif option.type is Activation:
                activation(value)
        # Only the rates, which all cells have: floats have no common bounds, so each cell checks its own.
        self._store(**{name: checks.rate(name, getattr(self, name)) for name in ("dropout", "recurrent_dropout")})

    @property
    def stochastic(self) -> bool:
        return bool(self.dropout or self.recurrent_dropout)

    @property
    def mask_gates(self) -> int:
        """The number of gates that get separate dropout masks when there is recurrent dropout; 1 if all gates share them."""
        return 1

    def carry_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the arrays in the carry, without batch axes."""
        return ((self.features_out,),)

    def mask_sizes(self, params: Params) -> dict[str, int | tuple[int, ...]]:
        """Return by name the size or shape of each dropout mask, without gates and batch axes. Without dropout it is empty."""
        return {}

    def begin(
        self,
        params: Params,
        batch_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        dropout_masks: DropoutMasks | None = None,
    ) -> tuple[PyTree, DropoutMasks]:
        """Return a carry of zeros, and the dropout masks as context.

        A mask has the shape (gates, *batch, *size). The first axis is 1 if all gates share a mask, else `mask_gates`.
        """
        carry = self.carry_type(*(jnp.zeros((*batch_shape, *shape), dtype) for shape in self.carry_shapes()))
        sizes = self.mask_sizes(params)
        if dropout_masks is not None:
            return carry, checks.dropout_masks(
                dropout_masks, gates=self.mask_gates, batch_shape=batch_shape, sizes=sizes, dtype=dtype
            )
        # Masks that differ by gate cost a product for each gate, see `masked_matmul`. Dropout of x alone thus shares one mask.
        gates = self.mask_gates if self.recurrent_dropout else 1
        shapes = {name: (gates, *batch_shape, *(size if isinstance(size, tuple) else (size,))) for name, size in sizes.items()}
        return carry, bernoulli_masks(key, {"inputs": self.dropout, "recurrent": self.recurrent_dropout}, shapes, dtype)


class RecurrentCell(StandardCell):
    """A cell whose step has two parts: the sums that enter its gates, x W + h U + b, and what it computes from them.

    The backend `fused` computes the gradient of the sums with respect to U for all steps at once.
    """

    @property
    def hoisting_obstacle(self) -> str:
        """Why that would save no work, or "". It does if `sums` is linear in h and `advance` does not read U."""
        return ""

    @abc.abstractmethod
    def sums(self, params: Params, context: DropoutMasks, carry: PyTree, z: PyTree) -> PyTree:
        """Return x W + h U + b for one step. The arguments are those of `step`."""

    @abc.abstractmethod
    def advance(self, params: Params, context: DropoutMasks, carry: PyTree, sums: PyTree) -> tuple[PyTree, Array]:
        """Return the new carry and the output of a step, from what `sums` returned. Other arguments are those of `step`."""

    def step(self, params: Params, context: DropoutMasks, carry: PyTree, z: PyTree) -> tuple[PyTree, Array]:
        return self.advance(params, context, carry, self.sums(params, context, carry, z))
