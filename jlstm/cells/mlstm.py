"""The mLSTM, an LSTM with a matrix as state and exponential gates: its options, parameters and equations."""

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm._src import checks
from jlstm._src.arrays import broadcast_leading
from jlstm.cell import DropoutMasks, Params
from jlstm.cells.base import StandardCell
from jlstm.initializers import Initializer, draw


class MLSTMCarry(NamedTuple):
    """The carry of an mLSTM. The matrix and the normalizer of the paper are C exp(m) and n exp(m)."""

    C: Float[Array, "*batch heads size size"]
    n: Float[Array, "*batch heads size"]
    m: Float[Array, "*batch heads"]


# Without this, `jax.export` cannot write a function to a file that takes or returns this carry.
jax.export.register_namedtuple_serialization(MLSTMCarry, serialized_name="jlstm.MLSTMCarry")


class MLSTMGates(NamedTuple):
    """The gates of an mLSTM. The input and forget gates have one number for each head, the output gate one for each unit."""

    i: Float[Array, "*batch heads"]
    f: Float[Array, "*batch heads"]
    o: Float[Array, "*batch units"]


class Projected(NamedTuple):
    """The projected inputs: query q, key k / √d and value of each head, the logs of its forget and input gate, and σ(o)."""

    q: Float[Array, "*batch heads size"]
    k: Float[Array, "*batch heads size"]
    v: Float[Array, "*batch heads size"]
    log_f: Float[Array, "*batch heads"]
    log_i: Float[Array, "*batch heads"]
    o: Float[Array, "*batch units"]


@dataclass(frozen=True, repr=False)
class MLSTMCell(StandardCell):
    """The matrix LSTM of xLSTM.

    With φ the function of the forget gate, one step of a head, whose size is d = units / heads, is

        q, k, v, o = split(x W + b),  i, f = split(x V + a)
        m' = max(log φ(f) + m, i)
        C' = φ(f) exp(m - m') C + exp(i - m') v (k / √d)ᵀ
        n' = φ(f) exp(m - m') n + exp(i - m') k / √d
        h' = σ(o) ⊙ C' q / max(|n'ᵀ q|, exp(-m'))

    m keeps the exponentials in range and cancels out of h. No gate sees h, so that `RNN(cell, backend="parallel")` can compute
    all steps at once, with a matrix of size time × time.

    Parameters: `kernel` W (features, 4·units) and `bias` b (4·units,), columns q | k | v | o; `gate_kernel` V (features, 2·heads)
    and `gate_bias` a (2·heads,), columns i | f.

    Args:
        units: size of h.
        heads: number of matrices.
        forget_gate: φ, "sigmoid" or "exp".
        use_bias: whether there are `bias` and `gate_bias`.
        forget_bias: initial value of the forget gates' bias; None leaves it to `bias_init`.
        kernel_init, bias_init: a name or a callable `(key, shape, dtype) -> array`.

    Raises:
        ValueError: `units` ≤ 0, `heads` does not divide `units`, or a name is unknown.

    Reference: Beck et al., 2024, "xLSTM: extended long short-term memory", equations 19 to 27 and, for all steps at once, 62 to
    76, https://arxiv.org/abs/2405.04517.
    Differs from: the authors' code (NX-AI/xlstm) adds 1e-6 to the denominator.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(jlstm.MLSTMCell(4, heads=2), backend="parallel")
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)))
        >>> ys.shape, carry.C.shape
        ((2, 5, 4), (2, 2, 2, 2))
    """

    carry_type = MLSTMCarry

    units: int
    _: KW_ONLY
    heads: int = 1
    forget_gate: str = "sigmoid"
    use_bias: bool = True
    forget_bias: float | None = 3.0
    kernel_init: Initializer = "glorot_uniform"
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
        # Always four keys, so that `use_bias` does not change how the kernels are drawn.
        keys = jax.random.split(key, 4)
        columns = {"": 4 * self.units, "gate_": 2 * self.heads}
        params = {
            f"{name}kernel": draw(self.kernel_init, subkey, (features, size), dtype)
            for subkey, (name, size) in zip(keys, columns.items(), strict=False)
        }
        if self.use_bias:
            biases = {
                f"{name}bias": draw(self.bias_init, subkey, (size,), dtype)
                for subkey, (name, size) in zip(keys[2:], columns.items(), strict=True)
            }
            if self.forget_bias is not None:
                # Columns are i | f, one of each for a head, so the second half is f.
                biases["gate_bias"] = biases["gate_bias"].at[self.heads :].set(self.forget_bias)
            params |= biases
        return params

    def carry_shapes(self) -> tuple[tuple[int, ...], ...]:
        size = self.units // self.heads
        return (self.heads, size, size), (self.heads, size), (self.heads,)

    def project(self, params: Params, context: DropoutMasks, xs: Float[Array, "time *batch features"]) -> Projected:
        """Return q, k / √d, v and the gates before stabilization, for all steps at once."""

        def linear(name: str) -> Array:
            zs = xs @ params[f"{name}kernel"]
            return zs + broadcast_leading(params[f"{name}bias"], zs) if self.use_bias else zs

        q, k, v, o = jnp.split(linear(""), 4, axis=-1)
        i, f = jnp.split(linear("gate_"), 2, axis=-1)
        # (time, *batch, units) to (time, *batch, heads, d): each head has d = units / heads of the features.
        q, k, v = (part.reshape(*part.shape[:-1], self.heads, -1) for part in (q, k, v))
        # Gates stay logarithms until `step` knows m: exp(i) alone could overflow. The input gate is exp(i), so its log is i.
        log_f = f if self.forget_gate == "exp" else jax.nn.log_sigmoid(f)
        return Projected(q, k / k.shape[-1] ** 0.5, v, log_f, i, jax.nn.sigmoid(o))

    def gates(self, params: Params, context: DropoutMasks, carry: MLSTMCarry, z: Projected) -> MLSTMGates:
        """Return exp(i - m'), φ(f) exp(m - m') and σ(o): the factors of the new value, of C and n, and of h."""
        return self._stabilized_gates(carry, z)[0]

    def step(self, params: Params, context: DropoutMasks, carry: MLSTMCarry, z: Projected) -> tuple[MLSTMCarry, Array]:
        gates, m = self._stabilized_gates(carry, z)
        f, i = gates.f[..., None], gates.i[..., None]
        # The outer product v kᵀ (equation 19): C' is (*batch, heads, d, d), indexed by value, then by key.
        matrix = f[..., None] * carry.C + i[..., None] * z.v[..., :, None] * z.k[..., None, :]
        n = f * carry.n + i * z.k
        numerator, denominator = jnp.einsum("...vk,...k->...v", matrix, z.q), jnp.einsum("...k,...k->...", n, z.q)
        # This is 1 / max(|nᵀ q|, exp(-m)), with both sides of the fraction times exp(min(m, 0)). If m is very negative, exp(-m)
        # alone would be infinite and its derivative NaN.
        scale = jnp.exp(jnp.minimum(m, 0))
        h = numerator * (scale / jnp.maximum(jnp.abs(denominator) * scale, jnp.exp(-jnp.maximum(m, 0))))[..., None]
        return MLSTMCarry(matrix, n, m), gates.o * h.reshape(z.o.shape)

    def _stabilized_gates(self, carry: MLSTMCarry, z: Projected) -> tuple[MLSTMGates, Array]:
        """Return the gates, and m'. Both exponents are at most 0, since m' is the larger of the two logarithms."""
        m = jnp.maximum(z.log_f + carry.m, z.log_i)
        return MLSTMGates(jnp.exp(z.log_i - m), jnp.exp(z.log_f + carry.m - m), z.o), m
