"""The plain recurrent network: its equation and nothing else."""

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm import checks
from jlstm.activations import Activation, activation
from jlstm.cell import Cell, Noise, Params
from jlstm.dropout import bernoulli_masks, gated_matmul
from jlstm.initializers import Initializer, draw, initializer


class ElmanCarry(NamedTuple):
    """What a plain recurrent network hands from one step to the next: its output `h`."""

    h: Float[Array, "*batch units"]


jax.export.register_namedtuple_serialization(ElmanCarry, serialized_name="jlstm.ElmanCarry")


@dataclass(frozen=True, repr=False)
class ElmanCell(Cell):
    """The plain recurrent network, to measure an LSTM against.

    With φ the activation, one step is

        h' = φ(x W + h U + b)

    Parameters: `kernel` W (features, units), `recurrent_kernel` U (units, units), `bias` b (units,): Keras' names and shapes.

    Args:
        units: size of h.
        activation: φ, a name or a callable. A callable equals only itself, so that a new one makes `jit` compile again.
        use_bias: whether there is a `bias`.
        dropout: share of input features zeroed, one mask for a whole sequence (Gal & Ghahramani 2016).
        recurrent_dropout: share of h zeroed where it enters the sum.
        kernel_init, recurrent_init, bias_init: a name or a callable `(key, shape, dtype) -> array`.

    Raises:
        ValueError: units ≤ 0, a rate outside [0, 1), or an unknown name.

    Reference: Elman 1990.
    Differs from: Keras calls it SimpleRNN; PyTorch's RNN has two biases and other initial weights.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", checks.positive("units", self.units))
        for name in ("dropout", "recurrent_dropout"):
            object.__setattr__(self, name, checks.rate(name, getattr(self, name)))
        checks.flag("use_bias", self.use_bias)
        activation(self.activation)
        for init in (self.kernel_init, self.recurrent_init, self.bias_init):
            initializer(init)

    @property
    def features_out(self) -> int:
        """The size of h: `units`."""
        return self.units

    @property
    def stochastic(self) -> bool:
        """Whether there is dropout."""
        return bool(self.dropout or self.recurrent_dropout)

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        """Draw `kernel`, `recurrent_kernel` and, with `use_bias`, `bias`."""
        checks.positive("features", features)
        for_kernel, for_recurrent, for_bias = jax.random.split(key, 3)
        params = {
            "kernel": draw(self.kernel_init, for_kernel, (features, self.units), dtype),
            "recurrent_kernel": draw(self.recurrent_init, for_recurrent, (self.units, self.units), dtype),
        }
        if self.use_bias:
            params["bias"] = draw(self.bias_init, for_bias, (self.units,), dtype)
        return params

    def begin(
        self,
        params: Params,
        batch_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        noise: Noise | None = None,
    ) -> tuple[ElmanCarry, Noise]:
        """Return zeros, and the dropout masks as context.

        `noise` may hold `inputs` (1, *batch, features) and `recurrent` (1, *batch, units), factors of x and h.
        """
        sizes = {"inputs": params["kernel"].shape[0], "recurrent": self.units}
        if noise is not None:
            context = checks.noise(noise, gates=1, batch_shape=batch_shape, sizes=sizes, dtype=dtype)
        else:
            rates = {"inputs": self.dropout, "recurrent": self.recurrent_dropout}
            context = bernoulli_masks(key, rates, {name: (1, *batch_shape, size) for name, size in sizes.items()}, dtype)
        return ElmanCarry(jnp.zeros((*batch_shape, self.units), dtype)), context

    def project(
        self, params: Params, context: Noise, xs: Float[Array, "time *batch features"]
    ) -> Float[Array, "time *batch units"]:
        """x W + b, for all steps in one matmul."""
        masks = context.get("inputs")
        zs = gated_matmul(xs, params["kernel"], masks if masks is None else jnp.expand_dims(masks, 1))
        return zs + jnp.expand_dims(params["bias"], range(zs.ndim - 1)) if self.use_bias else zs

    def step(
        self, params: Params, context: Noise, carry: ElmanCarry, z: Float[Array, "*batch units"]
    ) -> tuple[ElmanCarry, Array]:
        """The equation."""
        h = activation(self.activation)(z + gated_matmul(carry.h, params["recurrent_kernel"], context.get("recurrent")))
        return ElmanCarry(h), h
