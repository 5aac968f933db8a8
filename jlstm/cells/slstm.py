"""The sLSTM, an LSTM with exponential gates, a normalizer and a stabilizer: its options, parameters and equations."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm._src import checks
from jlstm._src.arrays import broadcast_leading
from jlstm.cell import DropoutMasks, Params
from jlstm.cells.base import RecurrentCell
from jlstm.cells.tuples import LSTMGates, split_gates
from jlstm.initializers import Initializer, draw


class SLSTMCarry(NamedTuple):
    """The carry of an sLSTM. The state and the normalizer of the paper are c exp(m) and n exp(m)."""

    h: Float[Array, "*batch units"]
    c: Float[Array, "*batch units"]
    n: Float[Array, "*batch units"]
    m: Float[Array, "*batch units"]


# Without this, `jax.export` cannot write a function to a file that takes or returns this carry.
jax.export.register_namedtuple_serialization(SLSTMCarry, serialized_name="jlstm.SLSTMCarry")


@dataclass(frozen=True, repr=False)
class SLSTMCell(RecurrentCell):
    """The scalar LSTM of xLSTM.

    With φ the function of the forget gate, one step is

        i, f, g, o = split(x W + h U + b)
        m' = max(log φ(f) + m, i), and i where n is 0
        c' = φ(f) exp(m - m') c + exp(i - m') tanh(g)
        n' = φ(f) exp(m - m') n + exp(i - m')
        h' = σ(o) c' / n'

    m keeps the exponentials in range and cancels out of h.

    Parameters: `kernel` W (features, 4·units), `bias` b (4·units,), columns i | f | g | o; `recurrent_kernel` U (heads,
    units / heads, 4·units / heads), in each head the same columns: heads do not see each other's h.

    Args:
        units: size of h, c, n and m.
        heads: number of parts of h. The gates of a part see only the h of the same part.
        forget_gate: φ, "sigmoid" or "exp".
        use_bias: whether there is a `bias`.
        forget_bias: initial value of the forget gate's bias; None leaves it to `bias_init`.
        kernel_init, recurrent_init, bias_init: a name or a callable `(key, shape, dtype) -> array`.

    Raises:
        ValueError: `units` ≤ 0, `heads` does not divide `units`, or a name is unknown.

    Reference: Beck et al., 2024, "xLSTM: extended long short-term memory", equations 8 to 17, https://arxiv.org/abs/2405.04517.
    Differs from: the authors' code (NX-AI/xlstm) draws forget biases that rise from unit to unit.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(jlstm.SLSTMCell(4, heads=2))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)))
        >>> ys.shape, params["recurrent_kernel"].shape
        ((2, 5, 4), (2, 2, 8))
    """

    carry_type = SLSTMCarry

    units: int
    _: KW_ONLY
    heads: int = 1
    forget_gate: str = "sigmoid"
    use_bias: bool = True
    forget_bias: float | None = 3.0
    kernel_init: Initializer = "glorot_uniform"
    recurrent_init: Initializer = "orthogonal"
    bias_init: Initializer = "zeros"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.units % self.heads:
            raise ValueError(f"heads must divide units, got {self.heads} heads for {self.units} units")
        checks.one_of("forget_gate", self.forget_gate, ("sigmoid", "exp"))
        default = type(self).forget_bias
        self._store(forget_bias=checks.forget_bias(self.forget_bias, default, biased=self.use_bias))

    @property
    def features_out(self) -> int:
        return self.units

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        checks.positive("features", features)
        for_kernel, for_recurrent, for_bias = jax.random.split(key, 3)
        head = self.units // self.heads
        # A draw for each head: "orthogonal" then holds within a head, and U is the block-diagonal matrix of the paper.
        recurrent = [
            draw(self.recurrent_init, subkey, (head, 4 * head), dtype) for subkey in jax.random.split(for_recurrent, self.heads)
        ]
        params = {
            "kernel": draw(self.kernel_init, for_kernel, (features, 4 * self.units), dtype),
            "recurrent_kernel": jnp.stack(recurrent),
        }
        if self.use_bias:
            params["bias"] = draw(self.bias_init, for_bias, (4 * self.units,), dtype)
            if self.forget_bias is not None:
                # Columns are i | f | g | o, so those of f are the second block.
                params["bias"] = params["bias"].at[self.units : 2 * self.units].set(self.forget_bias)
        return params

    def carry_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.units,),) * 4

    def project(self, params: Params, context: DropoutMasks, xs: Float[Array, "time *batch features"]) -> LSTMGates:
        """Return x W + b for all steps, computed in one matmul and split by gate."""
        zs = xs @ params["kernel"]
        return split_gates(zs + broadcast_leading(params["bias"], zs) if self.use_bias else zs)

    def gates(self, params: Params, context: DropoutMasks, carry: SLSTMCarry, z: LSTMGates) -> LSTMGates:
        """Return exp(i - m'), φ(f) exp(m - m'), tanh(g) and σ(o)."""
        gates, _ = self._stabilized_gates(carry, self.sums(params, context, carry, z))
        return gates._replace(f=jnp.minimum(gates.f, 1))  # above 1 only where n is 0, and there it is a factor of zeros

    def sums(self, params: Params, context: DropoutMasks, carry: SLSTMCarry, z: LSTMGates) -> LSTMGates:
        """Return x W + h U + b, split by gate."""
        # (*batch, units) to (*batch, heads, units / heads): the gates of a head see only the h of that head.
        heads = carry.h.reshape(*carry.h.shape[:-1], self.heads, -1)
        products = split_gates(jnp.einsum("...hk,hkc->...hc", heads, params["recurrent_kernel"]))
        return LSTMGates(*(a + b.reshape(a.shape) for a, b in zip(z, products, strict=True)))

    def advance(self, params: Params, context: DropoutMasks, carry: SLSTMCarry, sums: LSTMGates) -> tuple[SLSTMCarry, Array]:
        (i, f, g, o), m = self._stabilized_gates(carry, sums)
        c, n = f * carry.c + i * g, f * carry.n + i
        # n' is never 0: i or f is exactly 1, so that from the first step on n is at least 1.
        h = o * c / n
        return SLSTMCarry(h, c, n, m), h

    def _stabilized_gates(self, carry: SLSTMCarry, sums: LSTMGates) -> tuple[LSTMGates, Array]:
        """Return the gates after activation and stabilization, and m'."""
        (_, _, n, m), (i, f, g, o) = carry, sums
        decayed_m = m + (f if self.forget_gate == "exp" else jax.nn.log_sigmoid(f))
        # Where n is 0 the state is empty, and its m has no meaning. Then m' = i, so that n' = 1. With a larger m' the new n could
        # underflow to 0, and h' = c' / n' would be NaN.
        m = jnp.where(n == 0, i, jnp.maximum(decayed_m, i))
        # In that case decayed_m may be far above m'. The gate is then a factor of zeros, but inf · 0 would be NaN. Half of the
        # largest exponent is far enough from overflow.
        largest = math.log(jnp.finfo(m.dtype).max) / 2
        return LSTMGates(jnp.exp(i - m), jnp.exp(jnp.minimum(decayed_m - m, largest)), jnp.tanh(g), jax.nn.sigmoid(o)), m
