"""The LSTM and its variants: options and parameters; the equations are in gates.py."""

from dataclasses import KW_ONLY, dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm import checks
from jlstm.activations import Activation, activation
from jlstm.cell import Carry, Cell, Noise, Params
from jlstm.cells import normalization
from jlstm.cells.gates import COUPLINGS, Gates, by_gate, output, through
from jlstm.cells.normalization import SCHEMES, along, normalize
from jlstm.dropout import bernoulli_masks, gated_matmul
from jlstm.initializers import Initializer, draw, initializer


@dataclass(frozen=True, repr=False)
class LSTMCell(Cell):
    r"""Long short-term memory with a forget gate.

    With σ the recurrent activation, φ the activation and ψ the output activation, one step is

        i, f, g, o = split(x W + h U + b)
        c' = σ(f) c + σ(i) φ(g)
        h' = σ(o) ψ(c')

    Parameters: `kernel` W (features, 4·units), `recurrent_kernel` U (size of h, 4·units), `bias` b (4·units,), columns
    i | f | g | o. These are Keras' names, shapes and order. The forget bias is part of `bias` from the start.

    Args:
        units: size of c, and of h without `projection`.
        activation: φ, a name or a callable. A callable equals only itself, so that a new one makes `jit` compile again.
        recurrent_activation: σ.
        output_activation: ψ; None takes `activation`, as Keras does.
        use_bias: whether there is a `bias`.
        forget_bias: initial value of the forget gate's bias, where it has one; None leaves it to `bias_init`.
        peephole: the gates i and f also see c, and o sees c', each through weights of its own: `peephole_kernel` (3, units),
            rows i, f, o, added to their sums as p ⊙ c.
        projection: size of h if not `units`: h' = (σ(o) ψ(c')) P, with P the `projection_kernel` (units, projection).
        projection_bias: whether a `projection_bias` (projection,) is added to that.
        projection_clip, cell_clip, gate_clip: h', c' (before the output gate sees it), or the four sums (before their activation
            functions, as ONNX' `clip`) are cut off at ± this.
        coupled: "f=1-i" or "i=1-f" has one gate do for both (after σ); the other has no weights then, and no columns and rows.
        layer_norm: "ba2016", "tf_contrib", "addons" or "tflite": see `jlstm.cells.normalization`, also for its parameters.
        layer_norm_epsilon: ε; None takes the one that was published with the scheme.
        dropout: share of input features zeroed, one mask for a whole sequence (Gal & Ghahramani 2016).
        recurrent_dropout: share of h zeroed where it enters the gates; each gate then has its own masks, for x too, as in Keras.
        recurrent_dropout_on: "h", or "g": share of φ(g) zeroed instead, one mask for a whole sequence (Semeniuta 2016).
        kernel_init, recurrent_init, bias_init: a name or a callable `(key, shape, dtype) -> array`. `kernel_init` also draws the
            projection; peepholes start at zero.

    Raises:
        ValueError: a size or bound ≤ 0, a rate outside [0, 1), an unknown name, an option of something that is off.

    Reference: Hochreiter & Schmidhuber 1997; the forget gate: Gers, Schmidhuber & Cummins 2000; its bias of 1: Jozefowicz,
    Zaremba & Sutskever 2015; peepholes: Gers & Schmidhuber 2000; projection: Sak, Senior & Beaufays 2014.
    Differs from: PyTorch has two biases and initialises without a forget bias; TensorFlow 1 has columns i | g | f | o and
    adds the forget bias at run time; ONNX and TensorFlow contrib keep weights of the gate that is coupled away.
    """

    units: int
    _: KW_ONLY
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    output_activation: Activation | None = None
    use_bias: bool = True
    forget_bias: float | None = 1.0
    peephole: bool = False
    projection: int | None = None
    projection_bias: bool = False
    projection_clip: float | None = None
    cell_clip: float | None = None
    gate_clip: float | None = None
    coupled: str | None = None
    layer_norm: str | None = None
    layer_norm_epsilon: float | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    recurrent_dropout_on: str = "h"
    kernel_init: Initializer = "glorot_uniform"
    recurrent_init: Initializer = "orthogonal"
    bias_init: Initializer = "zeros"

    def __post_init__(self) -> None:
        normal: dict[str, float] = {"units": checks.positive("units", self.units)}
        normal |= {name: checks.rate(name, getattr(self, name)) for name in ("dropout", "recurrent_dropout")}
        bounds = ("projection_clip", "cell_clip", "gate_clip", "layer_norm_epsilon")
        normal |= {name: checks.bound(name, value) for name in bounds if (value := getattr(self, name)) is not None}
        if self.projection is not None:
            normal["projection"] = checks.positive("projection", self.projection)
        for name, value in normal.items():
            object.__setattr__(self, name, value)
        for name in ("use_bias", "peephole", "projection_bias"):
            checks.flag(name, getattr(self, name))
        checks.one_of("coupled", self.coupled, COUPLINGS)
        checks.one_of("layer_norm", self.layer_norm, (None, *SCHEMES))
        checks.one_of("recurrent_dropout_on", self.recurrent_dropout_on, ("h", "g"))
        biased = self.use_bias and "f" in self.names
        object.__setattr__(self, "forget_bias", checks.forget_bias(self.forget_bias, type(self).forget_bias, biased=biased))
        checks.needs("projection", self.projection, projection_bias=self.projection_bias, projection_clip=self.projection_clip)
        checks.needs("layer_norm", self.layer_norm, layer_norm_epsilon=self.layer_norm_epsilon)
        for function in (self.activation, self.recurrent_activation, self.psi):
            activation(function)
        for init in (self.kernel_init, self.recurrent_init, self.bias_init):
            initializer(init)

    @property
    def psi(self) -> Activation:
        """The output activation: `activation` where none is given."""
        return self.activation if self.output_activation is None else self.output_activation

    @property
    def epsilon(self) -> float:
        """The ε of `layer_norm`."""
        return self.layer_norm_epsilon or SCHEMES[self.layer_norm or "ba2016"].epsilon

    @property
    def names(self) -> str:
        """The gates that have weights, in the order of their columns: "ifgo", or three of them if two are coupled."""
        return COUPLINGS[self.coupled]

    @property
    def features_out(self) -> int:
        """The size of h: `projection`, or `units`."""
        return self.projection or self.units

    @property
    def stochastic(self) -> bool:
        """Whether there is dropout."""
        return bool(self.dropout or self.recurrent_dropout)

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        """Draw `kernel`, `recurrent_kernel` and what the options ask for."""
        checks.positive("features", features)
        columns = len(self.names) * self.units
        for_kernel, for_recurrent, for_bias, for_projection = jax.random.split(key, 4)
        params: dict[str, Params] = {
            "kernel": draw(self.kernel_init, for_kernel, (features, columns), dtype),
            "recurrent_kernel": draw(self.recurrent_init, for_recurrent, (self.features_out, columns), dtype),
        }
        if self.use_bias:
            params["bias"] = draw(self.bias_init, for_bias, (columns,), dtype)
            if self.forget_bias is not None and "f" in self.names:
                first = self.names.index("f") * self.units
                params["bias"] = params["bias"].at[first : first + self.units].set(self.forget_bias)
        if self.peephole:
            params["peephole_kernel"] = jnp.zeros((len(self.names) - 1, self.units), dtype)
        if self.projection is not None:
            params["projection_kernel"] = draw(self.kernel_init, for_projection, (self.units, self.projection), dtype)
        if self.projection_bias:
            params["projection_bias"] = jnp.zeros(self.features_out, dtype)
        if self.layer_norm is not None:
            params |= normalization.parameters(SCHEMES[self.layer_norm], columns, self.units, dtype)
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

        `noise` may hold `inputs` (gates, *batch, features) and `recurrent` (gates, *batch, size of h), or, with dropout on g,
        `recurrent` (1, *batch, units): factors of x, h and φ(g); gates is the number of `names` (one mask a gate) or 1.
        """
        carry = Carry(*(jnp.zeros((*batch_shape, size), dtype) for size in (self.features_out, self.units)))
        on_h = self.recurrent_dropout_on == "h"
        sizes = {"inputs": params["kernel"].shape[0], "recurrent": self.features_out if on_h else self.units}
        if noise is not None:
            gates = len(self.names) if on_h else 1
            return carry, checks.noise(noise, gates=gates, batch_shape=batch_shape, sizes=sizes, dtype=dtype)
        gates = len(self.names) if on_h and self.recurrent_dropout else 1
        rates = {"inputs": self.dropout, "recurrent": self.recurrent_dropout}
        return carry, bernoulli_masks(key, rates, {name: (gates, *batch_shape, size) for name, size in sizes.items()}, dtype)

    def project(self, params: Params, context: Noise, xs: Float[Array, "time *batch features"]) -> Gates:
        """x W + b, for all steps in one matmul, gate by gate: XLA reads parts of an array in a loop one number at a time."""
        masks = context.get("inputs")
        zs = gated_matmul(xs, params["kernel"], masks if masks is None else jnp.expand_dims(masks, 1))
        if "kernel_norm" in params:
            zs = normalize(zs, params["kernel_norm"], self.epsilon)
        biased = self.use_bias and "gate_norm" not in params  # there the bias comes after the normalisation of the whole sum
        return by_gate(zs + along(params["bias"], zs) if biased else zs, self.names)

    def gates(self, params: Params, context: Noise, carry: Carry, z: Gates) -> Gates:
        """σ(i), σ(f), φ(g) and σ(o)."""
        return through(self, params, context, carry, z)[0]

    def step(self, params: Params, context: Noise, carry: Carry, z: Gates) -> tuple[Carry, Array]:
        """The equations."""
        gates, c = through(self, params, context, carry, z)
        h = output(self, params, gates.o, c)
        return Carry(h, c), h
