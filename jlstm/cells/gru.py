"""The gated recurrent unit: its equations and nothing else."""

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm import checks
from jlstm.activations import Activation, activation
from jlstm.cell import Cell, Noise, Params
from jlstm.cells.normalization import along
from jlstm.dropout import bernoulli_masks, gated_matmul
from jlstm.initializers import Initializer, draw, initializer


class GRUCarry(NamedTuple):
    """What a gated recurrent unit hands from one step to the next: its output `h`."""

    h: Float[Array, "*batch units"]


jax.export.register_namedtuple_serialization(GRUCarry, serialized_name="jlstm.GRUCarry")


class GRUGates(NamedTuple):
    """One array for each of update gate, reset gate and candidate, before or after their activation functions."""

    z: Float[Array, "*batch units"]
    r: Float[Array, "*batch units"]
    g: Float[Array, "*batch units"]


@dataclass(frozen=True, repr=False)
class GRUCell(Cell):
    """Gated recurrent unit.

    With σ the recurrent activation and φ the activation, one step is

        z = σ(x W_z + h U_z + b_z)
        r = σ(x W_r + h U_r + b_r)
        g = φ(x W_g + r ⊙ (h U_g + d) + b_g)   with reset_after
        g = φ(x W_g + (r ⊙ h) U_g + b_g)       without
        h' = z ⊙ h + (1 - z) ⊙ g

    Parameters: `kernel` W (features, 3·units), `recurrent_kernel` U (units, 3·units), `bias` b (3·units,), columns z | r | g,
    and with `reset_after` `recurrent_bias` d (units,).

    Args:
        units: size of h.
        reset_after: whether the reset gate acts after the product with U, as in cuDNN, PyTorch and Keras; if not, before it, as
            published.
        activation: φ, a name or a callable. A callable equals only itself, so that a new one makes `jit` compile again.
        recurrent_activation: σ.
        use_bias: whether there is a `bias`, and a `recurrent_bias` where it belongs.
        dropout: share of input features zeroed, one mask for a whole sequence (Gal & Ghahramani 2016).
        recurrent_dropout: share of h zeroed where it enters the gates; each gate then has its own masks, for x too.
        kernel_init, recurrent_init, bias_init: a name or a callable `(key, shape, dtype) -> array`.

    Raises:
        ValueError: units ≤ 0, a rate outside [0, 1), or an unknown name.

    Reference: Cho et al. 2014.
    Differs from: Keras and PyTorch have a second bias of all gates, of which those of z and r do the same as the first ones;
    PyTorch has columns r | z | g.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(jlstm.GRUCell(4))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)))
        >>> ys.shape, carry.h.shape
        ((2, 5, 4), (2, 4))
    """

    units: int
    _: KW_ONLY
    reset_after: bool = True
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
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
        for name in ("use_bias", "reset_after"):
            checks.flag(name, getattr(self, name))
        for function in (self.activation, self.recurrent_activation):
            activation(function)
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
        """Draw `kernel`, `recurrent_kernel` and the biases."""
        checks.positive("features", features)
        for_kernel, for_recurrent, for_bias, for_second = jax.random.split(key, 4)
        params = {
            "kernel": draw(self.kernel_init, for_kernel, (features, 3 * self.units), dtype),
            "recurrent_kernel": draw(self.recurrent_init, for_recurrent, (self.units, 3 * self.units), dtype),
        }
        if self.use_bias:
            params["bias"] = draw(self.bias_init, for_bias, (3 * self.units,), dtype)
            if self.reset_after:
                params["recurrent_bias"] = draw(self.bias_init, for_second, (self.units,), dtype)
        return params

    def begin(
        self,
        params: Params,
        batch_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        noise: Noise | None = None,
    ) -> tuple[GRUCarry, Noise]:
        """Return zeros, and the dropout masks as context.

        `noise` may hold `inputs` (gates, *batch, features) and `recurrent` (gates, *batch, units), factors of x and h; gates is 3
        (one mask a gate) or 1 (one mask for all).
        """
        carry, sizes = GRUCarry(jnp.zeros((*batch_shape, self.units), dtype)), {"inputs": params["kernel"].shape[0]}
        sizes["recurrent"] = self.units
        if noise is not None:
            return carry, checks.noise(noise, gates=3, batch_shape=batch_shape, sizes=sizes, dtype=dtype)
        gates = 3 if self.recurrent_dropout else 1
        rates = {"inputs": self.dropout, "recurrent": self.recurrent_dropout}
        return carry, bernoulli_masks(key, rates, {name: (gates, *batch_shape, size) for name, size in sizes.items()}, dtype)

    def project(self, params: Params, context: Noise, xs: Float[Array, "time *batch features"]) -> GRUGates:
        """x W + b, for all steps in one matmul."""
        masks = context.get("inputs")
        zs = gated_matmul(xs, params["kernel"], masks if masks is None else jnp.expand_dims(masks, 1))
        return GRUGates(*jnp.split(zs + along(params["bias"], zs) if self.use_bias else zs, 3, axis=-1))

    def gates(self, params: Params, context: Noise, carry: GRUCarry, z: GRUGates) -> GRUGates:
        """σ(z), σ(r) and φ(g)."""
        gate, candidate = activation(self.recurrent_activation), activation(self.activation)
        masks, h, kernel = context.get("recurrent"), carry.h, params["recurrent_kernel"]
        first = None if masks is None else masks[:2]  # one mask for all, or the first two of three
        last = None if masks is None else masks[-1:]
        if self.reset_after:
            of_z, of_r, of_g = jnp.split(gated_matmul(h, kernel, masks), 3, axis=-1)
            of_g = of_g + along(params["recurrent_bias"], of_g) if self.use_bias else of_g
            r = gate(z.r + of_r)
            return GRUGates(gate(z.z + of_z), r, candidate(z.g + r * of_g))
        of_z, of_r = jnp.split(gated_matmul(h, kernel[:, : 2 * self.units], first), 2, axis=-1)
        r = gate(z.r + of_r)
        return GRUGates(gate(z.z + of_z), r, candidate(z.g + gated_matmul(r * h, kernel[:, 2 * self.units :], last)))

    def step(self, params: Params, context: Noise, carry: GRUCarry, z: GRUGates) -> tuple[GRUCarry, Array]:
        """The equations."""
        update, _, g = self.gates(params, context, carry, z)
        h = update * carry.h + (1 - update) * g
        return GRUCarry(h), h
