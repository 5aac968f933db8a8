"""Minimal GRU and LSTM. Their gates do not see the carry, so that steps are linear in the carry and can run in parallel."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm._src import checks
from jlstm._src.arrays import broadcast_leading
from jlstm.cell import DropoutMasks, Params
from jlstm.cells.base import StandardCell
from jlstm.cells.tuples import HiddenCarry
from jlstm.initializers import Initializer, draw


class Linear(NamedTuple):
    """The coefficients of a step that is linear in h: h' = decay ⊙ h + added."""

    decay: Float[Array, "*batch units"]
    added: Float[Array, "*batch units"]


class MinGRUGates(NamedTuple):
    """The only gate of a minimal GRU."""

    z: Float[Array, "*batch units"]


class MinLSTMGates(NamedTuple):
    """The gates of a minimal LSTM, divided by their sum, so that h' = f ⊙ h + i ⊙ g."""

    i: Float[Array, "*batch units"]
    f: Float[Array, "*batch units"]


@dataclass(frozen=True, repr=False)
class _Minimal(StandardCell):
    units: int
    _: KW_ONLY
    use_bias: bool = True
    kernel_init: Initializer = "glorot_uniform"
    bias_init: Initializer = "zeros"
    columns: ClassVar[int]  # number of gates and candidates, side by side in the kernel

    @property
    def features_out(self) -> int:
        return self.units

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        checks.positive("features", features)
        for_kernel, for_bias = jax.random.split(key)
        params = {"kernel": draw(self.kernel_init, for_kernel, (features, self.columns * self.units), dtype)}
        if self.use_bias:
            params["bias"] = draw(self.bias_init, for_bias, (self.columns * self.units,), dtype)
        return params

    def step(self, params: Params, context: DropoutMasks, carry: HiddenCarry, z: Linear) -> tuple[HiddenCarry, Array]:
        # The backend `parallel` composes the same coefficients by an associative scan.
        h = z.decay * carry.h + z.added
        return HiddenCarry(h), h

    def _columns(self, params: Params, xs: Float[Array, "time *batch features"]) -> list[Array]:
        zs = xs @ params["kernel"]
        return jnp.split(zs + broadcast_leading(params["bias"], zs) if self.use_bias else zs, self.columns, axis=-1)


@dataclass(frozen=True, repr=False)
class MinGRUCell(_Minimal):
    """The minimal gated recurrent unit.

        z, g = split(x W + b)
        h' = (1 - σ(z)) ⊙ h + σ(z) ⊙ g

    Parameters: `kernel` W (features, 2·units) and `bias` b (2·units,), columns z | g. With `RNN(cell, backend="parallel")` a
    run takes O(log time) steps.

    Args:
        units: size of h.
        use_bias: whether there is a `bias`.
        kernel_init, bias_init: a name or a callable `(key, shape, dtype) -> array`.

    Raises:
        ValueError: `units` ≤ 0, or a name is unknown.

    Reference: Feng et al., 2024, "Were RNNs all we needed?", https://arxiv.org/abs/2410.01201.
    Differs from: the authors' code trains another form, with a positive candidate and sums of logarithms.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(jlstm.MinGRUCell(4), backend="parallel")
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)))
        >>> ys.shape, params["kernel"].shape
        ((2, 5, 4), (3, 8))
    """

    columns: ClassVar[int] = 2

    def project(self, params: Params, context: DropoutMasks, xs: Float[Array, "time *batch features"]) -> Linear:
        """Return the coefficients of the linear steps, for all steps at once."""
        z, g = self._columns(params, xs)
        # 1 - σ(z), written as σ(-z), which keeps its digits where σ(z) rounds to 1.
        return Linear(jax.nn.sigmoid(-z), jax.nn.sigmoid(z) * g)

    def gates(self, params: Params, context: DropoutMasks, carry: HiddenCarry, z: Linear) -> MinGRUGates:
        """Return σ(z)."""
        # The projected step has only σ(-z), which is 1 - σ(z).
        return MinGRUGates(1 - z.decay)


@dataclass(frozen=True, repr=False)
class MinLSTMCell(_Minimal):
    """The minimal LSTM.

        i, f, g = split(x W + b)
        h' = (σ(f) ⊙ h + σ(i) ⊙ g) / (σ(f) + σ(i))

    Parameters: `kernel` W (features, 3·units) and `bias` b (3·units,), columns i | f | g. With `RNN(cell, backend="parallel")` a
    run takes O(log time) steps.

    Args:
        units: size of h.
        use_bias: whether there is a `bias`.
        kernel_init, bias_init: a name or a callable `(key, shape, dtype) -> array`.

    Raises:
        ValueError: `units` ≤ 0, or a name is unknown.

    Reference: Feng et al., 2024, "Were RNNs all we needed?", https://arxiv.org/abs/2410.01201.
    Differs from: the authors' code trains another form, with a positive candidate and sums of logarithms.

    Examples:
        `MinGRUCell` shows a run over a sequence.

        >>> import jax, jlstm
        >>> params = jlstm.MinLSTMCell(4).init(jax.random.key(0), features=3)
        >>> params["kernel"].shape, params["bias"].shape
        ((3, 12), (12,))
    """

    columns: ClassVar[int] = 3

    def project(self, params: Params, context: DropoutMasks, xs: Float[Array, "time *batch features"]) -> Linear:
        """Return the coefficients of the linear steps, for all steps at once."""
        i, f, g = self._columns(params, xs)
        # σ(i) / (σ(f) + σ(i)) = σ(log σ(i) - log σ(f)). The quotient itself could be 0 / 0 where both gates are tiny.
        share = jax.nn.sigmoid(jax.nn.log_sigmoid(i) - jax.nn.log_sigmoid(f))
        return Linear(1 - share, share * g)

    def gates(self, params: Params, context: DropoutMasks, carry: HiddenCarry, z: Linear) -> MinLSTMGates:
        """Return σ(i) and σ(f), divided by their sum."""
        return MinLSTMGates(1 - z.decay, z.decay)
