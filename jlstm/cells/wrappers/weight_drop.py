"""Weights dropped for a whole sequence."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from jaxtyping import Array

from jlstm import checks
from jlstm.cell import Params, PyTree
from jlstm.cells.wrappers.base import Both, Wrapper, keys
from jlstm.dropout import bernoulli_masks


@dataclass(frozen=True, repr=False)
class WeightDrop(Wrapper):
    """The recurrent kernel with some of its weights zeroed for a whole sequence, and for all of the batch: DropConnect.

        U' = U ⊙ d / (1 - rate), with d zeros and ones, zeros with the rate's probability

    Args:
        cell: a cell with a `recurrent_kernel`.
        rate: share of its weights that is zeroed.

    `noise` may hold `recurrent_kernel`, factors of its shape.

    Raises:
        ValueError: a rate outside [0, 1).
        TypeError: a cell without a recurrent kernel.

    Reference: Wan et al. 2013; for LSTMs Merity, Keskar & Socher 2018.
    """

    _: KW_ONLY
    rate: float = 0.5
    noises: ClassVar[tuple[str, ...]] = ("recurrent_kernel",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._store(rate=checks.rate("rate", self.rate))

    @property
    def stochastic(self) -> bool:
        """Whether weights are dropped, or the inner cell draws."""
        return bool(self.rate) or self.cell.stochastic

    def begin(
        self, params: Params, batch_shape: tuple[int, ...], dtype: Any, *, key: Array | None = None, noise: PyTree | None = None
    ) -> tuple[PyTree, Both]:
        """Return the inner cell's carry, and the factors."""
        carry, context = super().begin(params, batch_shape, dtype, key=key, noise=noise)
        if not isinstance(params, dict) or "recurrent_kernel" not in params:
            raise TypeError(
                f"WeightDrop is for a cell with a recurrent_kernel, got {self.cell!r}: put it around the innermost cell"
            )
        shape = params["recurrent_kernel"].shape
        if noise is not None:
            given = {name: value for name, value in noise.items() if name != "cell"}
            return carry, context._replace(own=checks.masks(given, {"recurrent_kernel": shape}, dtype).get("recurrent_kernel"))
        masks = bernoulli_masks(keys(key)[0], {"recurrent_kernel": self.rate}, {"recurrent_kernel": shape}, dtype)
        return carry, context._replace(own=masks.get("recurrent_kernel"))

    def inner_params(self, params: Params, drawn: PyTree) -> Params:
        """With such weights, where some are dropped."""
        return params if drawn is None else params | {"recurrent_kernel": params["recurrent_kernel"] * drawn}
