"""DropConnect: a wrapper that zeroes recurrent weights for a whole sequence."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from jaxtyping import Array

from jlstm._src import checks
from jlstm._src.dropout import bernoulli_masks
from jlstm.cell import DropoutMasks, Params, PyTree
from jlstm.cells.wrappers.base import Wrapper


@dataclass(frozen=True, repr=False)
class WeightDrop(Wrapper):
    """Apply DropConnect: zero weights of the recurrent kernel, the same ones for the whole sequence and the whole batch.

        U' = U ⊙ d / (1 - rate), where an entry of d is 0 with probability `rate`, else 1

    Args:
        cell: a cell with a `recurrent_kernel`.
        rate: share of the weights that is zeroed.

    `dropout_masks` may hold `recurrent_kernel`: factors d / (1 - rate) of the shape of U.

    Raises:
        ValueError: `rate` is outside [0, 1).
        TypeError: the cell has no recurrent kernel.

    References:
        Wan et al., 2013, "Regularization of neural networks using DropConnect".
        For LSTMs: Merity, Keskar & Socher, 2018, "Regularizing and optimizing LSTM language models",
        https://arxiv.org/abs/1708.02182.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(WeightDrop(jlstm.LSTMCell(4), rate=0.5))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> _, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)), key=jax.random.key(1))
        >>> bool((ys[0] == ys[1]).all())  # both sequences run with the same weights
        True
    """

    _: KW_ONLY
    rate: float = 0.5
    mask_names: ClassVar[tuple[str, ...]] = ("recurrent_kernel",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._store(rate=checks.rate("rate", self.rate))

    @property
    def stochastic(self) -> bool:
        """Whether weights are dropped, or the inner cell uses a random key."""
        return bool(self.rate) or self.cell.stochastic

    def outer_context(
        self, params: Params, batch_shape: tuple[int, ...], dtype: Any, key: Array | None, dropout_masks: DropoutMasks | None
    ) -> PyTree:
        """Return the factors of the kernel, or None."""
        # The kernel must be at the top of the parameters. Wrappers such as Highway have it one level down, in "cell".
        if not isinstance(params, dict) or "recurrent_kernel" not in params:
            raise TypeError(
                f"WeightDrop is for a cell with a recurrent_kernel, got {self.cell!r}: put it around the innermost cell"
            )
        shapes = {"recurrent_kernel": params["recurrent_kernel"].shape}
        if dropout_masks is None:
            masks = bernoulli_masks(key, {"recurrent_kernel": self.rate}, shapes, dtype)
        else:
            masks = checks.masks(dropout_masks, shapes, dtype)
        return masks.get("recurrent_kernel")

    def inner_params(self, params: Params, drawn: PyTree) -> Params:
        """Return the parameters, with the masked recurrent kernel if there are factors."""
        return params if drawn is None else params | {"recurrent_kernel": params["recurrent_kernel"] * drawn}
