"""Zoneout: a wrapper that keeps random units of the carry unchanged."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import jax
from jaxtyping import Array

from jlstm._src import checks
from jlstm.cell import DropoutMasks, Params, PyTree, Reduced
from jlstm.cells.wrappers.base import Nested, Wrapper


@dataclass(frozen=True, repr=False)
class Zoneout(Wrapper):
    """Let random units of h and c keep their old value. The units are drawn again at each step.

        h'' = d_h ⊙ h + (1 - d_h) ⊙ h',  c'' = d_c ⊙ c + (1 - d_c) ⊙ c'

    Here h' and c' are what the cell returns; h' is computed from c', not from c''. An entry of d is 1 with the probability of the
    rate, else 0. In inference d is the rate itself. With a rate of h the output is h''.

    Args:
        cell: a cell that carries h, and c where `c` is not 0.
        h, c: rates.

    `dropout_masks` may hold the masks d as `h` and `c` (time, *batch, size): 1 where the old value is kept. Any axis may have
    size 1.

    Raises:
        ValueError: a rate is outside [0, 1]; h has a rate and the output of the cell is not its h; or c has a rate and its scale
            changes from step to step, as in the sLSTM.
        TypeError: h or c has a rate and the cell does not carry it.

    Reference: Krueger et al., 2017, "Zoneout: regularizing RNNs by randomly preserving hidden activations",
    https://arxiv.org/abs/1606.01305.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(Zoneout(jlstm.LSTMCell(4), h=1.0))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, _ = layer.apply(params, jax.numpy.ones((2, 5, 3)), key=jax.random.key(1))
        >>> float(abs(carry.h).max())  # h keeps its initial value, zero
        0.0
    """

    _: KW_ONLY
    h: float = 0.0
    c: float = 0.0
    mask_names: ClassVar[tuple[str, ...]] = ("h", "c")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("h", "c"):
            self._store(**{name: checks.probability(name, getattr(self, name))})
        # `step` returns the mixed h as output, which is right only if the cell outputs its h.
        if self.h and not self.cell.gives_h:
            raise ValueError(f"Zoneout of h is for a cell whose output is its h, got {self.cell!r}: put Zoneout inside of that")

    @property
    def stochastic(self) -> bool:
        """Whether units keep their value, or the inner cell uses a random key."""
        return bool(self.h or self.c) or self.cell.stochastic

    def outer_carry(self, params: Params, batch_shape: tuple[int, ...], carry: PyTree) -> PyTree:
        """Return the initial carry of the inner cell. It must have what has a rate, in the same scale at every step."""
        for name in ("h", "c"):
            if getattr(self, name) and not hasattr(carry, name):
                raise TypeError(f"{name} is for a cell that carries {name}, got {self.cell!r}: leave {name} out")
        if self.c and hasattr(carry, "m"):
            raise ValueError(f"c of {self.cell!r} has another scale at every step, exp(m): zone out h only")
        return carry

    def outer_step_masks(
        self, params: Params, shape: tuple[int, ...], dtype: Any, key: Array | None, dropout_masks: DropoutMasks | None
    ) -> PyTree:
        """Return d, zeros and ones, for each part of the carry that has a rate; None in inference."""
        # `shape` is (time, *batch), and a carry has no time axis.
        carry = jax.eval_shape(lambda: self.cell.begin(params, shape[1:], dtype)[0])
        shapes = {name: (shape[0], *getattr(carry, name).shape) for name in ("h", "c") if getattr(self, name)}
        if dropout_masks is not None:
            return checks.masks(dropout_masks, shapes, dtype) or None
        if key is None or not shapes:
            return None
        keys = zip(jax.random.split(key, len(shapes)), shapes.items(), strict=True)
        # Zeros and ones, not scaled up as in dropout: inference takes the rate in their place.
        return {name: jax.random.bernoulli(subkey, getattr(self, name), size).astype(dtype) for subkey, (name, size) in keys}

    def step(self, params: Params, context: Nested, carry: PyTree, z: Nested) -> tuple[PyTree, Array]:
        """Run a step of the inner cell, and put back the units that keep their old value."""
        new_carry, y = super().step(params, context, carry, z)
        for name in ("h", "c"):
            if rate := getattr(self, name):
                d = (z.outer or {}).get(name, rate)  # in inference the rate, which is the expectation of d
                new_carry = new_carry._replace(**{name: d * getattr(carry, name) + (1 - d) * getattr(new_carry, name)})
        return new_carry, new_carry.h if self.h else y

    def reduced(self, params: Params, context: Nested, xs: Any) -> Reduced | None:
        """Return the run of the inner cell if both rates are 0, else None."""
        return None if self.h or self.c else super().reduced(params, context, xs)
