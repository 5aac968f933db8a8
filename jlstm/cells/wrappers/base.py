"""The base class of wrappers. Whatever a subclass does not override is done by the inner cell."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
from jaxtyping import Array

from jlstm._src import checks
from jlstm.cell import Cell, DropoutMasks, MaskedInputs, Params, PyTree, Reduced


class Nested(NamedTuple):
    """A pair of values of the same kind: `outer` belongs to the wrapper, `inner` to its inner cell."""

    outer: Any
    inner: Any


@dataclass(frozen=True, repr=False)
class Wrapper(Cell):
    """Base class of wrappers.

    A wrapper overrides what happens around the inner cell. `inner_params` returns the parameters that the inner cell runs with,
    `enter` changes the inputs, and `leave` changes the outputs. They work on one step and on all steps at once, so that
    `reduced` can take them out of the loop. A wrapper that changes the carry overrides `step`, and `reduced` to return None when
    it does so. `outer_carry` changes or refuses the initial carry. `outer_context` and `outer_step_masks` draw what is random in
    the wrapper itself, once for a sequence or at each step.

    Parameters and carry are those of the inner cell, unless a wrapper changes them. The context, the masks of each step and the
    projected inputs are `Nested`. `dropout_masks` is a dict with the keys in `mask_names`, and `cell` for the masks of the inner
    cell. If a key is missing, the cell runs as in inference.

    Args:
        cell: the inner cell.

    Raises:
        TypeError: `cell` is not a Cell.
    """

    cell: Cell
    mask_names: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        checks.instance("cell", self.cell, Cell, "LSTMCell(units)")

    @property
    def features_out(self) -> int:
        return self.cell.features_out

    @property
    def spatial_in(self) -> tuple[int, ...]:
        return self.cell.spatial_in

    @property
    def spatial_out(self) -> tuple[int, ...]:
        return self.cell.spatial_out

    @property
    def gives_h(self) -> bool:
        return self.cell.gives_h

    @property
    def stochastic(self) -> bool:
        return self.cell.stochastic

    def features_in(self, params: Params) -> int:
        return self.cell.features_in(self.inner_params(params, None))

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        return self.cell.init(key, features, dtype)

    def begin(
        self,
        params: Params,
        batch_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        dropout_masks: PyTree | None = None,
    ) -> tuple[PyTree, Nested]:
        """Return the initial carry of the inner cell, and the contexts of both."""
        (outer_key, inner_key), (outer_masks, inner_masks) = _split_key(key), _split_masks(self, dropout_masks)
        inner_params = self.inner_params(params, None)
        carry, context = self.cell.begin(inner_params, batch_shape, dtype, key=inner_key, dropout_masks=inner_masks)
        carry = self.outer_carry(params, batch_shape, carry)
        return carry, Nested(self.outer_context(params, batch_shape, dtype, outer_key, outer_masks), context)

    def step_masks(
        self,
        params: Params,
        shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        dropout_masks: PyTree | None = None,
    ) -> Nested | None:
        """Return the dropout masks that the wrapper and the inner cell draw again at each step, or None if there is none."""
        (outer_key, inner_key), (outer_masks, inner_masks) = _split_key(key), _split_masks(self, dropout_masks)
        inner_params = self.inner_params(params, None)
        inner = self.cell.step_masks(inner_params, shape, dtype, key=inner_key, dropout_masks=inner_masks)
        outer = self.outer_step_masks(params, shape, dtype, outer_key, outer_masks)
        return None if inner is None and outer is None else Nested(outer, inner)

    def outer_carry(self, params: Params, batch_shape: tuple[int, ...], carry: PyTree) -> PyTree:
        """Return the initial carry of the wrapper, from that of the inner cell, or refuse a cell with such a carry."""
        return carry

    def outer_context(
        self, params: Params, batch_shape: tuple[int, ...], dtype: Any, key: Array | None, dropout_masks: DropoutMasks | None
    ) -> PyTree:
        """Return the context of the wrapper itself, or None. `dropout_masks` has no masks of the inner cell."""
        return None

    def outer_step_masks(
        self, params: Params, shape: tuple[int, ...], dtype: Any, key: Array | None, dropout_masks: DropoutMasks | None
    ) -> PyTree:
        """Return the dropout masks that the wrapper itself draws again at each step, or None."""
        return None

    def inner_params(self, params: Params, drawn: PyTree) -> Params:
        """Return the parameters that the inner cell runs with.

        `drawn` is the context of the wrapper, or None where there is no context yet.
        """
        return params

    def enter(self, params: Params, drawn: PyTree, xs: Array, fresh: PyTree) -> tuple[Array, PyTree]:
        """Return the inputs of the inner cell, and what `leave` needs as `beside`, for all steps at once.

        `drawn` is the context of the wrapper, and `fresh` its dropout masks of each step, or None.
        """
        return xs, fresh

    def leave(self, drawn: PyTree, beside: PyTree, y: Array) -> Array:
        """Return the outputs of one step or of all steps, from the outputs `y` of the inner cell and `beside` from `enter`."""
        return y

    def project(self, params: Params, context: Nested, xs: Any) -> Nested:
        """Return the inputs after `enter`, projected by the inner cell."""
        inner_xs, beside = self._entered(params, context, xs)
        return Nested(beside, self.cell.project(self.inner_params(params, context.outer), context.inner, inner_xs))

    def step(self, params: Params, context: Nested, carry: PyTree, z: Nested) -> tuple[PyTree, Array]:
        """Return the carry of the inner cell, and its output after `leave`."""
        new_carry, y = self.cell.step(self.inner_params(params, context.outer), context.inner, carry, z.inner)
        return new_carry, self.leave(context.outer, z.outer, y)

    def gates(self, params: Params, context: Nested, carry: PyTree, z: Nested) -> Any:
        return self.cell.gates(self.inner_params(params, context.outer), context.inner, carry, z.inner)

    def reduced(self, params: Params, context: Nested, xs: Any) -> Reduced | None:
        """Return the run of the inner cell, with inputs after `enter` and with `leave` as `finish`."""
        inner_xs, beside = self._entered(params, context, xs)
        finish = partial(self.leave, context.outer, beside)
        return Reduced(self.cell, self.inner_params(params, context.outer), context.inner, inner_xs, finish)

    def _entered(self, params: Params, context: Nested, xs: Any) -> tuple[Any, PyTree]:
        # If the inner cell draws at each step too, it gets its share of the dropout masks, and else plain inputs.
        plain, fresh = xs if isinstance(xs, MaskedInputs) else (xs, Nested(None, None))
        entered, beside = self.enter(params, context.outer, plain, fresh.outer)
        return (entered if fresh.inner is None else MaskedInputs(entered, fresh.inner)), beside


def _split_key(key: Array | None) -> tuple[Array | None, Array | None]:
    """Return a key for the wrapper and a key for its inner cell, both None without a key."""
    # A layer calls `begin` and `step_masks` with the same key. So a wrapper must draw in only one of them. In both it would draw
    # the same numbers.
    return (None, None) if key is None else tuple(jax.random.split(key))


def _split_masks(cell: Wrapper, dropout_masks: PyTree | None) -> tuple[DropoutMasks | None, PyTree | None]:
    """Return the dropout masks for the wrapper and those for its inner cell."""
    if dropout_masks is None:
        return None, None
    if not isinstance(dropout_masks, dict):
        raise TypeError(f"dropout masks of {type(cell).__name__} must be a dict, got {type(dropout_masks).__name__}")
    for name in dropout_masks:
        checks.one_of(f"a key of the dropout masks of {type(cell).__name__}", name, (*cell.mask_names, "cell"))
    return {name: mask for name, mask in dropout_masks.items() if name != "cell"}, dropout_masks.get("cell")
