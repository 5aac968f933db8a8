"""Dropout: a wrapper that masks inputs, outputs and the carried h of a cell."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import jax
from jaxtyping import Array

from jlstm._src import checks
from jlstm._src.arrays import broadcast_leading
from jlstm._src.dropout import bernoulli_masks
from jlstm.cell import DropoutMasks, MaskedInputs, Params, PyTree, Reduced
from jlstm.cells.wrappers.base import Nested, Wrapper


@dataclass(frozen=True, repr=False)
class Dropout(Wrapper):
    """Apply dropout to the inputs, the outputs and the carried h of a cell.

        h', y = cell(h, x ⊙ m_x), the output is y ⊙ m_y, and the next step gets h' ⊙ m_h

    A mask m is zero with the probability of its rate, and else 1 / (1 - rate). c is never masked.

    Args:
        cell: the inner cell. It must carry h if `state` is not 0.
        inputs, outputs, state: rates of the masks of x, y and h.
        variational: use one mask for all steps of a sequence, instead of a new mask for each step.

    `dropout_masks` may hold `inputs` (time, *batch, features), `outputs` (time, *batch, features_out) and `state` (time, *batch,
    size of h). With `variational` they have no time axis. Any axis may have size 1.

    Raises:
        ValueError: a rate is outside [0, 1).
        TypeError: `state` is not 0 and the cell carries no h.

    References:
        Zaremba, Sutskever & Vinyals, 2014, "Recurrent neural network regularization", https://arxiv.org/abs/1409.2329.
        `variational`: Gal & Ghahramani, 2016, https://arxiv.org/abs/1512.05287.
    Differs from: TensorFlow 1's DropoutWrapper takes the rates of what is kept. With `variational` it draws one mask for the
    whole batch; pass `dropout_masks` with a batch of 1 for that.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(Dropout(jlstm.LSTMCell(4), outputs=0.5))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> _, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)), key=jax.random.key(1))
        >>> int((ys == 0).sum())  # of 40 outputs
        20
    """

    _: KW_ONLY
    inputs: float = 0.0
    outputs: float = 0.0
    state: float = 0.0
    variational: bool = False
    mask_names: ClassVar[tuple[str, ...]] = ("inputs", "outputs", "state")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("inputs", "outputs", "state"):
            self._store(**{name: checks.rate(name, getattr(self, name))})
        checks.flag("variational", self.variational)

    @property
    def gives_h(self) -> bool:
        """Whether the output is the h of the carry. It is not if a mask changes only one of them."""
        return super().gives_h and not (self.outputs or self.state)

    @property
    def stochastic(self) -> bool:
        """Whether a rate is not 0, or the inner cell uses a random key."""
        return bool(self.inputs or self.outputs or self.state) or self.cell.stochastic

    def outer_carry(self, params: Params, batch_shape: tuple[int, ...], carry: PyTree) -> PyTree:
        """Return the initial carry of the inner cell. It must have h if `state` is not 0."""
        if self.state and not hasattr(carry, "h"):
            raise TypeError(f"state is for a cell that carries h, got {self.cell!r}: leave state out")
        return carry

    def outer_context(
        self, params: Params, batch_shape: tuple[int, ...], dtype: Any, key: Array | None, dropout_masks: DropoutMasks | None
    ) -> PyTree:
        """Return the masks of a sequence with `variational`, else none."""
        return self._masks(params, batch_shape, dtype, key, dropout_masks) if self.variational else {}

    def outer_step_masks(
        self, params: Params, shape: tuple[int, ...], dtype: Any, key: Array | None, dropout_masks: DropoutMasks | None
    ) -> PyTree:
        """Return the masks of each step, or None with `variational`."""
        # `or None`: for an empty dict the layer would wrap its inputs into `MaskedInputs` for nothing.
        return None if self.variational else self._masks(params, shape, dtype, key, dropout_masks) or None

    def _masks(
        self, params: Params, shape: tuple[int, ...], dtype: Any, key: Array | None, dropout_masks: DropoutMasks | None
    ) -> dict[str, Array]:
        carry = jax.eval_shape(lambda: self.cell.begin(params, (), dtype)[0])  # only for the size of h
        sizes = {
            "inputs": (*self.spatial_in, self.features_in(params)),
            "outputs": (*self.spatial_out, self.features_out),
            "state": carry.h.shape if self.state else (),
        }
        shapes = {name: (*shape, *size) for name, size in sizes.items() if getattr(self, name)}
        if dropout_masks is not None:
            return checks.masks(dropout_masks, shapes, dtype)
        return bernoulli_masks(key, {name: getattr(self, name) for name in shapes}, shapes, dtype)

    def enter(self, params: Params, drawn: PyTree, xs: Array, fresh: PyTree) -> tuple[Array, PyTree]:
        """Return the masked inputs, and the other masks of each step."""
        fresh = fresh or {}
        if (mask := (drawn | fresh).get("inputs")) is not None:
            xs = xs * broadcast_leading(mask, xs)
        return xs, {name: mask for name, mask in fresh.items() if name != "inputs"}

    def leave(self, drawn: PyTree, beside: PyTree, y: Array) -> Array:
        mask = (drawn | beside).get("outputs")
        return y if mask is None else y * broadcast_leading(mask, y)

    def step(self, params: Params, context: Nested, carry: PyTree, z: Nested) -> tuple[PyTree, Array]:
        """Run a step of the inner cell, and mask the h of the new carry."""
        new_carry, y = super().step(params, context, carry, z)
        mask = (context.outer | z.outer).get("state")
        # Only the carried h is masked: y has a mask of its own, of `outputs`.
        return new_carry if mask is None else new_carry._replace(h=new_carry.h * mask), y

    def reduced(self, params: Params, context: Nested, xs: Any) -> Reduced | None:
        """Return the run of the inner cell, or None if h is masked, which happens inside the loop."""
        fresh = xs.dropout_masks.outer if isinstance(xs, MaskedInputs) else None
        return None if "state" in context.outer | (fresh or {}) else super().reduced(params, context, xs)
