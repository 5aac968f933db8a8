"""The plain recurrent cell of Elman: its options, parameters and equation."""

from dataclasses import KW_ONLY, dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm._src import checks
from jlstm._src.arrays import broadcast_leading, masked_matmul
from jlstm.activations import Activation, activation
from jlstm.cell import DropoutMasks, Params
from jlstm.cells.base import RecurrentCell
from jlstm.cells.tuples import HiddenCarry
from jlstm.initializers import Initializer, draw


@dataclass(frozen=True, repr=False)
class ElmanCell(RecurrentCell):
    """Plain recurrent cell, a baseline for LSTMs.

    With φ the activation, one step is

        h' = φ(x W + h U + b)

    Parameters: `kernel` W (features, units), `recurrent_kernel` U (units, units), `bias` b (units,), as in Keras.

    Args:
        units: size of h.
        activation: φ, a name or a callable. A callable equals only itself, so that a new one makes `jit` compile again.
        use_bias: whether there is a `bias`.
        dropout: share of the input features that is zeroed, with one mask for a whole sequence (Gal & Ghahramani, 2016).
        recurrent_dropout: share of h that is zeroed where it enters the sum, with one mask for a whole sequence.
        kernel_init, recurrent_init, bias_init: a name or a callable `(key, shape, dtype) -> array`.

    Raises:
        ValueError: `units` ≤ 0, a rate is outside [0, 1), or a name is unknown.

    References:
        Elman, 1990, "Finding structure in time", https://doi.org/10.1207/s15516709cog1402_1.
        Gal & Ghahramani, 2016, "A theoretically grounded application of dropout in recurrent neural networks",
        https://arxiv.org/abs/1512.05287.
    Differs from: Keras calls it SimpleRNN. PyTorch's RNN has two biases and other initial weights.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(jlstm.ElmanCell(4))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)))
        >>> ys.shape, carry.h.shape
        ((2, 5, 4), (2, 4))
    """

    units: int
    _: KW_ONLY
    activation: Activation = "tanh"
    use_bias: bool = True
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    kernel_init: Initializer = "glorot_uniform"
    recurrent_init: Initializer = "orthogonal"
    bias_init: Initializer = "zeros"

    @property
    def features_out(self) -> int:
        return self.units

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        checks.positive("features", features)
        for_kernel, for_recurrent, for_bias = jax.random.split(key, 3)
        params = {
            "kernel": draw(self.kernel_init, for_kernel, (features, self.units), dtype),
            "recurrent_kernel": draw(self.recurrent_init, for_recurrent, (self.units, self.units), dtype),
        }
        if self.use_bias:
            params["bias"] = draw(self.bias_init, for_bias, (self.units,), dtype)
        return params

    def mask_sizes(self, params: Params) -> dict[str, int | tuple[int, ...]]:
        """Return the sizes of the masks `inputs` for x and `recurrent` for h."""
        return {"inputs": params["kernel"].shape[0], "recurrent": self.units}

    def project(
        self, params: Params, context: DropoutMasks, xs: Float[Array, "time *batch features"]
    ) -> Float[Array, "time *batch units"]:
        """Return x W + b for all steps, computed in one matmul."""
        masks = context.get("inputs")  # (gates, *batch, features): the new axis 1 is time
        zs = masked_matmul(xs, params["kernel"], masks if masks is None else jnp.expand_dims(masks, 1))
        return zs + broadcast_leading(params["bias"], zs) if self.use_bias else zs

    def sums(
        self, params: Params, context: DropoutMasks, carry: HiddenCarry, z: Float[Array, "*batch units"]
    ) -> Float[Array, "*batch units"]:
        """Return x W + h U + b, the argument of φ."""
        return z + masked_matmul(carry.h, params["recurrent_kernel"], context.get("recurrent"))

    def advance(
        self, params: Params, context: DropoutMasks, carry: HiddenCarry, sums: Float[Array, "*batch units"]
    ) -> tuple[HiddenCarry, Array]:
        h = activation(self.activation)(sums)
        return HiddenCarry(h), h
