"""The LSTM: its equations and nothing else."""

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm import checks
from jlstm.activations import Activation, activation
from jlstm.cell import Carry, Cell, Noise, Params
from jlstm.dropout import bernoulli_masks, gated_matmul
from jlstm.initializers import Initializer, draw, initializer


class Gates(NamedTuple):
    """One array for each gate of an LSTM, before or after their activation functions; `g` is the candidate."""

    i: Float[Array, "*batch units"]
    f: Float[Array, "*batch units"]
    g: Float[Array, "*batch units"]
    o: Float[Array, "*batch units"]


def by_gate(columns: Float[Array, "... columns"]) -> Gates:
    """Take apart what a kernel yields: columns i | f | g | o."""
    return Gates(*jnp.split(columns, 4, axis=-1))


@dataclass(frozen=True, repr=False)
class LSTMCell(Cell):
    r"""Long short-term memory with a forget gate.

    With σ the recurrent activation, φ the activation and ψ the output activation, one step is

        i, f, g, o = split(x W + h U + b)
        c' = σ(f) c + σ(i) φ(g)
        h' = σ(o) ψ(c')

    Parameters: `kernel` W (features, 4·units), `recurrent_kernel` U (units, 4·units), `bias` b (4·units,), columns
    i | f | g | o. These are Keras' names, shapes and order. The forget bias is part of `bias` from the start.

    Args:
        units: size of h and c.
        activation: φ, a name or a callable. A callable equals only itself, so that a new one makes `jit` compile again.
        recurrent_activation: σ.
        output_activation: ψ; None takes `activation`, as Keras does.
        use_bias: whether there is a `bias`.
        forget_bias: initial value of the forget gate's bias; None leaves it to `bias_init`.
        dropout: share of input features zeroed, one mask for a whole sequence (Gal & Ghahramani 2016).
        recurrent_dropout: share of h zeroed where it enters the gates; each gate then has its own masks, for x too, as in Keras.
        kernel_init, recurrent_init, bias_init: a name or a callable `(key, shape, dtype) -> array`.

    Raises:
        ValueError: units ≤ 0, a rate outside [0, 1), or an unknown name.

    Reference: Hochreiter & Schmidhuber 1997; the forget gate: Gers, Schmidhuber & Cummins 2000; its bias of 1:
    Jozefowicz, Zaremba & Sutskever 2015.
    Differs from: PyTorch has two biases and initialises without a forget bias; TensorFlow 1 has columns i | g | f | o and
    adds the forget bias at run time.
    """

    units: int
    _: KW_ONLY
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    output_activation: Activation | None = None
    use_bias: bool = True
    forget_bias: float | None = 1.0
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    kernel_init: Initializer = "glorot_uniform"
    recurrent_init: Initializer = "orthogonal"
    bias_init: Initializer = "zeros"

    def __post_init__(self) -> None:
        normal: dict[str, float] = {"units": checks.positive("units", self.units)}
        normal |= {name: checks.rate(name, getattr(self, name)) for name in ("dropout", "recurrent_dropout")}
        if self.forget_bias is not None:
            normal["forget_bias"] = checks.number("forget_bias", self.forget_bias)
        for name, value in normal.items():
            object.__setattr__(self, name, value)
        checks.flag("use_bias", self.use_bias)
        for function in (self.activation, self.recurrent_activation, self._output_activation):
            activation(function)
        for init in (self.kernel_init, self.recurrent_init, self.bias_init):
            initializer(init)

    @property
    def _output_activation(self) -> Activation:
        return self.activation if self.output_activation is None else self.output_activation

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
        columns = 4 * self.units
        for_kernel, for_recurrent, for_bias = jax.random.split(key, 3)
        params = {
            "kernel": draw(self.kernel_init, for_kernel, (features, columns), dtype),
            "recurrent_kernel": draw(self.recurrent_init, for_recurrent, (self.units, columns), dtype),
        }
        if self.use_bias:
            bias = draw(self.bias_init, for_bias, (columns,), dtype)
            if self.forget_bias is not None:
                bias = bias.at[self.units : 2 * self.units].set(self.forget_bias)
            params["bias"] = bias
        return params

    def begin(
        self,
        params: Params,
        batch_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        noise: Noise | None = None,
    ) -> tuple[Carry, Noise]:
        """Return zeros, and the dropout masks as context.

        `noise` may hold `inputs` (gates, *batch, features) and `recurrent` (gates, *batch, units), factors by which x and h
        are multiplied; gates is 4 (one mask a gate) or 1 (one mask for all).
        """
        zeros = jnp.zeros((*batch_shape, self.units), dtype)
        sizes = {"inputs": params["kernel"].shape[0], "recurrent": self.units}
        if noise is not None:
            context = checks.noise(noise, gates=4, batch_shape=batch_shape, sizes=sizes, dtype=dtype)
        else:
            gates = 4 if self.recurrent_dropout else 1
            rates = {"inputs": self.dropout, "recurrent": self.recurrent_dropout}
            context = bernoulli_masks(key, rates, {name: (gates, *batch_shape, size) for name, size in sizes.items()}, dtype)
        return Carry(zeros, zeros), context

    def project(self, params: Params, context: Noise, xs: Float[Array, "time *batch features"]) -> Gates:
        """x W + b, for all steps in one matmul, gate by gate: XLA reads parts of an array in a loop one number at a time."""
        masks = context.get("inputs")
        zs = gated_matmul(xs, params["kernel"], masks if masks is None else jnp.expand_dims(masks, 1))
        return by_gate(zs + jnp.expand_dims(params["bias"], range(zs.ndim - 1)) if self.use_bias else zs)

    def gates(self, params: Params, context: Noise, carry: Carry, z: Gates) -> Gates:
        """σ(i), σ(f), φ(g) and σ(o)."""
        gate, candidate = activation(self.recurrent_activation), activation(self.activation)
        recurrent = by_gate(gated_matmul(carry.h, params["recurrent_kernel"], context.get("recurrent")))
        i, f, g, o = jax.tree.map(jnp.add, z, recurrent)
        return Gates(gate(i), gate(f), candidate(g), gate(o))

    def step(self, params: Params, context: Noise, carry: Carry, z: Gates) -> tuple[Carry, Array]:
        """The equations."""
        output = activation(self._output_activation)
        i, f, g, o = self.gates(params, context, carry, z)
        c = f * carry.c + i * g
        h = o * output(c)
        return Carry(h, c), h
