"""Dropout around a cell."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import jax
from jaxtyping import Array

from jlstm import checks
from jlstm.arrays import broadcast_leading
from jlstm.cell import Noisy, Params, PyTree, Reduced
from jlstm.cells.wrappers.base import Both, Wrapper, keys
from jlstm.dropout import bernoulli_masks


@dataclass(frozen=True, repr=False)
class Dropout(Wrapper):
    """Parts of what goes into a cell, comes out of it, and is handed on, zeroed and the rest divided by 1 - rate.

        h', y = cell(h, x ⊙ m_x),  then y ⊙ m_y, and h' ⊙ m_h is handed on

    Args:
        cell: one that carries h, where `state` is not 0.
        inputs, outputs, state: rates.
        variational: one mask for all steps of a sequence instead of a fresh one for each.

    `noise` may hold `inputs` (time, *batch, features), `outputs` (time, *batch, features out) and `state` (time, *batch, size of
    h), the factors; with `variational` without time. Any axis may have size 1.

    Raises:
        ValueError: a rate outside [0, 1).
        TypeError: a rate of `state` and a cell that carries no h.

    Reference: Zaremba, Sutskever & Vinyals 2014; `variational`: Gal & Ghahramani 2016.
    Differs from: TensorFlow 1's DropoutWrapper has rates of what is kept and, with `variational`, draws one mask for the whole
    batch: to have that, give `noise` with a batch of 1. There too c is not touched.
    """

    _: KW_ONLY
    inputs: float = 0.0
    outputs: float = 0.0
    state: float = 0.0
    variational: bool = False
    noises: ClassVar[tuple[str, ...]] = ("inputs", "outputs", "state")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("inputs", "outputs", "state"):
            self._store(**{name: checks.rate(name, getattr(self, name))})
        checks.flag("variational", self.variational)

    @property
    def gives_h(self) -> bool:
        """Not where outputs or h are masked."""
        return super().gives_h and not (self.outputs or self.state)

    @property
    def stochastic(self) -> bool:
        """Whether something is zeroed, or the inner cell draws."""
        return bool(self.inputs or self.outputs or self.state) or self.cell.stochastic

    def begin(
        self, params: Params, batch_shape: tuple[int, ...], dtype: Any, *, key: Array | None = None, noise: PyTree | None = None
    ) -> tuple[PyTree, Both]:
        """Return the inner cell's carry, and the masks that stay."""
        carry, context = super().begin(params, batch_shape, dtype, key=key, noise=noise)
        if self.state and not hasattr(carry, "h"):
            raise TypeError(f"state is for a cell that carries h, got {self.cell!r}: leave state out")
        own = self._masks(params, batch_shape, dtype, keys(key)[0], noise) if self.variational else {}
        return carry, context._replace(own=own)

    def own_of_each_step(self, params: Params, shape: tuple[int, ...], dtype: Any, key: Array | None, noise: PyTree) -> PyTree:
        """Return the fresh masks."""
        return None if self.variational else self._masks(params, shape, dtype, key, noise) or None

    def _masks(self, params: Params, shape: tuple[int, ...], dtype: Any, key: Array | None, noise: PyTree) -> dict[str, Array]:
        carry = jax.eval_shape(lambda: self.cell.begin(params, (), dtype)[0])
        ends = {
            "inputs": (*self.spatial_in, self.features_in(params)),
            "outputs": (*self.spatial_out, self.features_out),
            "state": carry.h.shape if self.state else (),
        }
        shapes = {name: (*shape, *end) for name, end in ends.items() if getattr(self, name)}
        if noise is not None:
            return checks.masks({name: mask for name, mask in noise.items() if name != "cell"}, shapes, dtype)
        return bernoulli_masks(key, {name: getattr(self, name) for name in shapes}, shapes, dtype)

    def enter(self, params: Params, drawn: PyTree, xs: Array, fresh: PyTree) -> tuple[Array, PyTree]:
        """Masked inputs, and the other masks of each step."""
        fresh = fresh or {}
        if (mask := (drawn | fresh).get("inputs")) is not None:
            xs = xs * broadcast_leading(mask, xs)
        return xs, {name: mask for name, mask in fresh.items() if name != "inputs"}

    def leave(self, drawn: PyTree, beside: PyTree, y: Array) -> Array:
        """Masked outputs."""
        mask = (drawn | beside).get("outputs")
        return y if mask is None else y * broadcast_leading(mask, y)

    def step(self, params: Params, context: Both, carry: PyTree, z: Both) -> tuple[PyTree, Array]:
        """The cell's step, and a masked h to hand on."""
        after, y = super().step(params, context, carry, z)
        mask = (context.own | z.own).get("state")
        return after if mask is None else after._replace(h=after.h * mask), y

    def reduced(self, params: Params, context: Both, xs: Any) -> Reduced | None:
        """The inner cell between masks, unless h is masked."""
        fresh = xs.noise.own if isinstance(xs, Noisy) else None
        return None if "state" in context.own | (fresh or {}) else super().reduced(params, context, xs)
