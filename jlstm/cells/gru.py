"""The gated recurrent unit: its equations and nothing else."""

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm import checks
from jlstm.activations import Activation, activation
from jlstm.arrays import broadcast_leading, masked_matmul
from jlstm.cell import Noise, Params
from jlstm.cells.base import StandardCell
from jlstm.cells.tuples import HiddenCarry
from jlstm.initializers import Initializer, draw


class GRUGates(NamedTuple):
    """One array for each of update gate, reset gate and candidate, before or after their activation functions."""

    z: Float[Array, "*batch units"]
    r: Float[Array, "*batch units"]
    g: Float[Array, "*batch units"]


@dataclass(frozen=True, repr=False)
class GRUCell(StandardCell):
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

    @property
    def features_out(self) -> int:
        """The size of h: `units`."""
        return self.units

    @property
    def mask_gates(self) -> int:
        """One for each of z, r and g."""
        return 3

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

    def mask_sizes(self, params: Params) -> dict[str, int | tuple[int, ...]]:
        """`inputs` is multiplied with x, `recurrent` with h."""
        return {"inputs": params["kernel"].shape[0], "recurrent": self.units}

    def project(self, params: Params, context: Noise, xs: Float[Array, "time *batch features"]) -> GRUGates:
        """x W + b, for all steps in one matmul."""
        masks = context.get("inputs")
        zs = masked_matmul(xs, params["kernel"], masks if masks is None else jnp.expand_dims(masks, 1))
        return GRUGates(*jnp.split(zs + broadcast_leading(params["bias"], zs) if self.use_bias else zs, 3, axis=-1))

    def gates(self, params: Params, context: Noise, carry: HiddenCarry, z: GRUGates) -> GRUGates:
        """σ(z), σ(r) and φ(g)."""
        gate, candidate = activation(self.recurrent_activation), activation(self.activation)
        masks, h, kernel = context.get("recurrent"), carry.h, params["recurrent_kernel"]
        first = None if masks is None else masks[:2]  # one mask for all, or the first two of three
        last = None if masks is None else masks[-1:]
        if self.reset_after:
            of_z, of_r, of_g = jnp.split(masked_matmul(h, kernel, masks), 3, axis=-1)
            of_g = of_g + broadcast_leading(params["recurrent_bias"], of_g) if self.use_bias else of_g
            r = gate(z.r + of_r)
            return GRUGates(gate(z.z + of_z), r, candidate(z.g + r * of_g))
        of_z, of_r = jnp.split(masked_matmul(h, kernel[:, : 2 * self.units], first), 2, axis=-1)
        r = gate(z.r + of_r)
        return GRUGates(gate(z.z + of_z), r, candidate(z.g + masked_matmul(r * h, kernel[:, 2 * self.units :], last)))

    def step(self, params: Params, context: Noise, carry: HiddenCarry, z: GRUGates) -> tuple[HiddenCarry, Array]:
        """The equations."""
        update, _, g = self.gates(params, context, carry, z)
        h = update * carry.h + (1 - update) * g
        return HiddenCarry(h), h
