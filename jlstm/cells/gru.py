"""The gated recurrent unit: its options, parameters and equations."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

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


class GRUGates(NamedTuple):
    """The update gate z, the reset gate r and the candidate g, before or after the activation functions."""

    z: Float[Array, "*batch units"]
    r: Float[Array, "*batch units"]
    g: Float[Array, "*batch units"]


class GRUSums(NamedTuple):
    """The sums x W + h U + b of a step. The candidate has two, since the reset gate acts on its sum with h alone."""

    z: Float[Array, "*batch units"]
    r: Float[Array, "*batch units"]
    x_g: Float[Array, "*batch units"]
    h_g: Any  # an array (*batch, units); None without `reset_after`, since it then depends on r


@dataclass(frozen=True, repr=False)
class GRUCell(RecurrentCell):
    """Gated recurrent unit.

    With σ the recurrent activation and φ the activation, one step is

        z = σ(x W_z + h U_z + b_z)
        r = σ(x W_r + h U_r + b_r)
        g = φ(x W_g + r ⊙ (h U_g + d) + b_g)   with reset_after
        g = φ(x W_g + (r ⊙ h) U_g + b_g)       without reset_after
        h' = z ⊙ h + (1 - z) ⊙ g

    Parameters: `kernel` W (features, 3·units), `recurrent_kernel` U (units, 3·units), `bias` b (3·units,), columns z | r | g.
    With `reset_after` there is also `recurrent_bias` d (units,).

    Args:
        units: size of h.
        reset_after: whether the reset gate acts after the product with U, as in cuDNN, PyTorch and Keras. If not, it acts before
            the product, as in the paper.
        activation: φ, a name or a callable. A callable equals only itself, so that a new one makes `jit` compile again.
        recurrent_activation: σ, a name or a callable.
        use_bias: whether there are a `bias` and, with `reset_after`, a `recurrent_bias`.
        dropout: share of the input features that is zeroed, with one mask for a whole sequence (Gal & Ghahramani, 2016).
        recurrent_dropout: share of h that is zeroed where it enters the gates. With it each gate has separate masks, also for x.
        kernel_init, recurrent_init, bias_init: a name or a callable `(key, shape, dtype) -> array`.

    Raises:
        ValueError: `units` ≤ 0, a rate is outside [0, 1), or a name is unknown.

    References:
        Cho et al., 2014, "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
        https://arxiv.org/abs/1406.1078.
        Gal & Ghahramani, 2016, "A theoretically grounded application of dropout in recurrent neural networks",
        https://arxiv.org/abs/1512.05287.
    Differs from: Keras and PyTorch have a second bias for all gates; for z and r it only adds to the first one. PyTorch has
    columns r | z | g. Haiku exchanges z and 1 - z, and applies the reset gate before the product, as `reset_after=False` does.

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
        return self.units

    @property
    def hoisting_obstacle(self) -> str:
        return "" if self.reset_after else "the reset gate acts before the product with U"

    @property
    def mask_gates(self) -> int:
        """3, for the gates z, r and g."""
        return 3

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        checks.positive("features", features)
        # Always four keys, also without biases: an option then does not change how the other weights are drawn.
        for_kernel, for_recurrent, for_bias, for_recurrent_bias = jax.random.split(key, 4)
        params = {
            "kernel": draw(self.kernel_init, for_kernel, (features, 3 * self.units), dtype),
            "recurrent_kernel": draw(self.recurrent_init, for_recurrent, (self.units, 3 * self.units), dtype),
        }
        if self.use_bias:
            params["bias"] = draw(self.bias_init, for_bias, (3 * self.units,), dtype)
            if self.reset_after:
                # Only for g: a second bias of z or r would merely add to the first one.
                params["recurrent_bias"] = draw(self.bias_init, for_recurrent_bias, (self.units,), dtype)
        return params

    def mask_sizes(self, params: Params) -> dict[str, int | tuple[int, ...]]:
        """Return the sizes of the masks `inputs` for x and `recurrent` for h."""
        return {"inputs": params["kernel"].shape[0], "recurrent": self.units}

    def project(self, params: Params, context: DropoutMasks, xs: Float[Array, "time *batch features"]) -> GRUGates:
        """Return x W + b for all steps, computed in one matmul and split by gate."""
        masks = context.get("inputs")  # (gates, *batch, features): the new axis 1 is time
        zs = masked_matmul(xs, params["kernel"], masks if masks is None else jnp.expand_dims(masks, 1))
        return GRUGates(*jnp.split(zs + broadcast_leading(params["bias"], zs) if self.use_bias else zs, 3, axis=-1))

    def gates(self, params: Params, context: DropoutMasks, carry: HiddenCarry, z: GRUGates) -> GRUGates:
        """Return σ(z), σ(r) and φ(g)."""
        return self._activate(params, context, carry, self.sums(params, context, carry, z))

    def sums(self, params: Params, context: DropoutMasks, carry: HiddenCarry, z: GRUGates) -> GRUSums:
        """Return x W + h U + b, of which the two terms of g are apart."""
        masks, kernel = context.get("recurrent"), params["recurrent_kernel"]
        # With `reset_after` all of h U is one matmul, since r is applied to its result. Else r must be known before h U_g.
        if self.reset_after:
            h_z, h_r, h_g = jnp.split(masked_matmul(carry.h, kernel, masks), 3, axis=-1)
            h_g = h_g + broadcast_leading(params["recurrent_bias"], h_g) if self.use_bias else h_g
            return GRUSums(z.z + h_z, z.r + h_r, z.g, h_g)
        gate_masks = None if masks is None else masks[:2]  # the shared mask, or the masks of z and r
        h_z, h_r = jnp.split(masked_matmul(carry.h, kernel[:, : 2 * self.units], gate_masks), 2, axis=-1)
        return GRUSums(z.z + h_z, z.r + h_r, z.g, None)

    def _activate(self, params: Params, context: DropoutMasks, carry: HiddenCarry, sums: GRUSums) -> GRUGates:
        gate, candidate = activation(self.recurrent_activation), activation(self.activation)
        r = gate(sums.r)
        if self.reset_after:
            return GRUGates(gate(sums.z), r, candidate(sums.x_g + r * sums.h_g))
        masks = context.get("recurrent")
        candidate_masks = None if masks is None else masks[-1:]  # the shared mask, or the mask of g
        h_g = masked_matmul(r * carry.h, params["recurrent_kernel"][:, 2 * self.units :], candidate_masks)
        return GRUGates(gate(sums.z), r, candidate(sums.x_g + h_g))

    def advance(self, params: Params, context: DropoutMasks, carry: HiddenCarry, sums: GRUSums) -> tuple[HiddenCarry, Array]:
        """Compute h' = z ⊙ h + (1 - z) ⊙ g."""
        update, _, g = self._activate(params, context, carry, sums)
        # z keeps the old h, as in equation 7 of Cho et al. In other papers, and in `MinGRUCell`, z lets the new value in.
        h = update * carry.h + (1 - update) * g
        return HiddenCarry(h), h
