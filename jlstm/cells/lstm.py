"""The LSTM and its variants: options, parameters and equations."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm._src import checks
from jlstm._src.arrays import broadcast_leading, clip, masked_matmul
from jlstm.activations import Activation, activation
from jlstm.cell import DropoutMasks, Params
from jlstm.cells import normalization
from jlstm.cells.base import RecurrentCell
from jlstm.cells.normalization import SCHEMES, normalize
from jlstm.cells.tuples import LSTMCarry, LSTMGates, split_gates
from jlstm.initializers import Initializer, draw

GATE_NAMES = {None: "ifgo", "f=1-i": "igo", "i=1-f": "fgo"}  # by the option `coupled`: the gates that have weights


@dataclass(frozen=True, repr=False)
class LSTMCell(RecurrentCell):
    r"""Long short-term memory with a forget gate.

    With σ the recurrent activation, φ the activation and ψ the output activation, one step is

        i, f, g, o = split(x W + h U + b)
        c' = σ(f) c + σ(i) φ(g)
        h' = σ(o) ψ(c')

    Parameters: `kernel` W (features, 4·units), `recurrent_kernel` U (size of h, 4·units), `bias` b (4·units,), columns
    i | f | g | o. Names, shapes and order are Keras's. `bias` includes the forget bias.

    Args:
        units: size of c, and of h without `projection`.
        activation: φ, a name or a callable. A callable equals only itself, so that a new one makes `jit` compile again.
        recurrent_activation: σ, a name or a callable.
        output_activation: ψ, a name or a callable; None takes `activation`, as Keras does.
        use_bias: whether there is a `bias`.
        forget_bias: initial bias of the forget gate, if that has a bias; None leaves it to `bias_init`.
        peephole: whether the gates i and f see c and the gate o sees c', through the `peephole_kernel` p (3, units), rows i, f,
            o. p ⊙ c is added to the sum that enters the gate.
        projection: size of h if not `units`: h' = (σ(o) ψ(c')) P, with P the `projection_kernel` (units, projection).
        projection_bias: whether a `projection_bias` (projection,) is added to the projected h'.
        projection_clip: bound of h', which is clipped to ± this value.
        cell_clip: bound of c', which is clipped before the output gate sees it.
        gate_clip: bound of the four sums before their activation functions, as the attribute `clip` of ONNX.
        coupled: "f=1-i" or "i=1-f": compute one gate from the other, after σ. The computed gate has no weights, so that its
            columns and rows are left out.
        layer_norm: "ba2016", "tf_contrib", "addons" or "tflite": see `jlstm.cells.normalization`, also for the parameters.
        layer_norm_epsilon: ε; None takes the published value of the scheme.
        dropout: share of the input features that is zeroed, with one mask for a whole sequence (Gal & Ghahramani, 2016).
        recurrent_dropout: share of h that is zeroed where it enters the gates. With it each gate has separate masks, also for x,
            as in Keras.
        recurrent_dropout_on: "h", or "g" to zero φ(g) instead of h, with one mask for a whole sequence (Semeniuta et al., 2016).
        kernel_init, recurrent_init, bias_init: a name or a callable `(key, shape, dtype) -> array`. `kernel_init` also draws the
            projection. Peepholes start at zero.

    Raises:
        ValueError: a size or bound is ≤ 0, a rate is outside [0, 1), a name is unknown, or an option belongs to a feature that
            is off.

    References:
        Hochreiter & Schmidhuber, 1997, "Long short-term memory", https://doi.org/10.1162/neco.1997.9.8.1735.
        Forget gate: Gers, Schmidhuber & Cummins, 2000, "Learning to forget: continual prediction with LSTM",
        https://doi.org/10.1162/089976600300015015.
        Forget bias of 1: Jozefowicz, Zaremba & Sutskever, 2015, "An empirical exploration of recurrent network architectures",
        https://proceedings.mlr.press/v37/jozefowicz15.html.
        Peepholes: Gers & Schmidhuber, 2000, "Recurrent nets that time and count", https://doi.org/10.1109/IJCNN.2000.861302.
        Projection: Sak, Senior & Beaufays, 2014, "Long short-term memory based recurrent neural network architectures for large
        vocabulary speech recognition", https://arxiv.org/abs/1402.1128.
        Dropout: Gal & Ghahramani, 2016, "A theoretically grounded application of dropout in recurrent neural networks",
        https://arxiv.org/abs/1512.05287; Semeniuta et al., 2016, "Recurrent dropout without memory loss",
        https://arxiv.org/abs/1603.05118.
    Differs from: PyTorch has two biases and initializes without a forget bias. TensorFlow 1 has columns i | g | f | o and
    adds the forget bias at run time. ONNX and TensorFlow contrib keep weights for the gate that is computed from the other.
    Haiku has columns i | g | f | o and adds 1 to the forget gate at run time. Flax and Equinox initialize without a forget bias;
    the carry of Flax is (c, h).

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(jlstm.LSTMCell(4, peephole=True, projection=2))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)))
        >>> ys.shape, carry.h.shape, carry.c.shape
        ((2, 5, 2), (2, 2), (2, 4))
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

    carry_type = LSTMCarry

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("projection_clip", "cell_clip", "gate_clip", "layer_norm_epsilon"):
            if (value := getattr(self, name)) is not None:
                self._store(**{name: checks.bound(name, value)})
        if self.projection is not None:
            self._store(projection=checks.positive("projection", self.projection))
        checks.one_of("coupled", self.coupled, GATE_NAMES)
        checks.one_of("layer_norm", self.layer_norm, (None, *SCHEMES))
        checks.one_of("recurrent_dropout_on", self.recurrent_dropout_on, ("h", "g"))
        has_forget_bias, default = self.use_bias and "f" in self.gate_names, type(self).forget_bias
        self._store(forget_bias=checks.forget_bias(self.forget_bias, default, biased=has_forget_bias))
        checks.needs("projection", self.projection, projection_bias=self.projection_bias, projection_clip=self.projection_clip)
        checks.needs("layer_norm", self.layer_norm, layer_norm_epsilon=self.layer_norm_epsilon)
        activation(self.output_function)

    @property
    def gate_names(self) -> str:
        """The gates that have weights, in the order of their columns: "ifgo", or three of these if two gates are coupled."""
        return GATE_NAMES[self.coupled]

    @property
    def output_function(self) -> Activation:
        """The function ψ: `output_activation`, or `activation` if that is None."""
        return self.activation if self.output_activation is None else self.output_activation

    @property
    def features_out(self) -> int:
        return self.projection or self.units

    @property
    def mask_gates(self) -> int:
        """The number of gates with weights, or 1 if recurrent dropout is on g."""
        return len(self.gate_names) if self.recurrent_dropout_on == "h" else 1

    @property
    def hoisting_obstacle(self) -> str:
        return "the products of h are normalized" if self._normalizes == "products" else ""

    def carry_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self.features_out,), (self.units,)

    def mask_sizes(self, params: Params) -> dict[str, int | tuple[int, ...]]:
        """Return the sizes of the masks `inputs` for x and `recurrent` for h, or for φ(g) with `recurrent_dropout_on="g"`."""
        size = self.features_out if self.recurrent_dropout_on == "h" else self.units
        return {"inputs": params["kernel"].shape[0], "recurrent": size}

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        checks.positive("features", features)
        columns = len(self.gate_names) * self.units
        # Always four keys, also without bias or projection: an option then does not change how the other weights are drawn.
        for_kernel, for_recurrent, for_bias, for_projection = jax.random.split(key, 4)
        params: dict[str, Params] = {
            "kernel": draw(self.kernel_init, for_kernel, (features, columns), dtype),
            "recurrent_kernel": draw(self.recurrent_init, for_recurrent, (self.features_out, columns), dtype),
        }
        if self.use_bias:
            params["bias"] = draw(self.bias_init, for_bias, (columns,), dtype)
            if self.forget_bias is not None and "f" in self.gate_names:
                first = self.gate_names.index("f") * self.units
                params["bias"] = params["bias"].at[first : first + self.units].set(self.forget_bias)
        if self.peephole:
            params["peephole_kernel"] = jnp.zeros((len(self.gate_names) - 1, self.units), dtype)
        if self.projection is not None:
            params["projection_kernel"] = draw(self.kernel_init, for_projection, (self.units, self.projection), dtype)
        if self.projection_bias:
            params["projection_bias"] = jnp.zeros(self.features_out, dtype)
        if self.layer_norm is not None:
            params |= normalization.parameters(SCHEMES[self.layer_norm], columns, self.units, dtype)
        return params

    def project(self, params: Params, context: DropoutMasks, xs: Float[Array, "time *batch features"]) -> LSTMGates:
        """Return x W + b for all steps, computed in one matmul and split by gate.

        The split is here and not in `step`, since in a loop XLA reads parts of an array one number at a time.
        """
        masks = context.get("inputs")  # (gates, *batch, features): the new axis 1 is time
        zs = masked_matmul(xs, params["kernel"], None if masks is None else jnp.expand_dims(masks, 1))
        # "products": x W and h U are normalized separately, so that x W can be normalized here, for all steps at once.
        if self._normalizes == "products":
            zs = normalize(zs, params["kernel_norm"], self._epsilon)
        if self.use_bias and self._normalizes != "sums":  # else the bias is added after the normalization, in `advance`
            zs = zs + broadcast_leading(params["bias"], zs)
        return split_gates(zs, self.gate_names)

    def gates(self, params: Params, context: DropoutMasks, carry: LSTMCarry, z: LSTMGates) -> LSTMGates:
        """Return σ(i), σ(f), φ(g) and σ(o)."""
        return self.activate(params, context, carry.c, self.sums(params, context, carry, z))[0]

    def sums(self, params: Params, context: DropoutMasks, carry: LSTMCarry, z: LSTMGates) -> LSTMGates:
        """Return x W + h U + b, split by gate."""
        masks = context.get("recurrent") if self.recurrent_dropout_on == "h" else None
        products = masked_matmul(carry.h, params["recurrent_kernel"], masks)
        if self._normalizes == "products":
            products = normalize(products, params["recurrent_norm"], self._epsilon)
        return jax.tree.map(jnp.add, z, split_gates(products, self.gate_names))

    def advance(self, params: Params, context: DropoutMasks, carry: LSTMCarry, sums: LSTMGates) -> tuple[LSTMCarry, Array]:
        gates, c = self.activate(params, context, carry.c, sums)
        h = self.output(params, gates.o, c)
        return LSTMCarry(h, c), h

    def activate(self, params: Params, context: DropoutMasks, c: Array, sums: LSTMGates) -> tuple[LSTMGates, Array]:
        """Return the gates σ(i), σ(f), φ(g), σ(o), and c'. `ConvLSTMCell` calls this too, with the sums of all places.

        Args:
            params: parameters; the peepholes and layer normalization are read.
            context: dropout masks.
            c: the cell state before the step.
            sums: x W + h U + b, split by gate.
        """
        sigma, phi = activation(self.recurrent_activation), activation(self.activation)
        peepholes, scales, biases = self._gate_weights(params)

        # The order is that of the published schemes: the normalization includes the peephole, the bias follows it, and the clip
        # is last, as in ONNX.
        def gate(name: str, function: Callable[[Array], Array], cell_state: Array) -> Array:
            a = getattr(sums, name)
            if name in peepholes:
                a = a + broadcast_leading(peepholes[name], a) * cell_state
            if self._normalizes == "sums":
                a = normalize(a, {"scale": scales[name]}, self._epsilon)
                a = a + broadcast_leading(biases[name], a) if self.use_bias else a
            return function(clip(a, self.gate_clip))

        if self.coupled == "f=1-i":
            i = gate("i", sigma, c)
            f = 1 - i
        elif self.coupled == "i=1-f":
            f = gate("f", sigma, c)
            i = 1 - f
        else:
            i, f = gate("i", sigma, c), gate("f", sigma, c)
        g = gate("g", phi, c)
        added = i * g
        if self.recurrent_dropout_on == "g" and "recurrent" in context:
            added = added * context["recurrent"][0]
        c = f * c + added
        # The output gate and the next step see c after this normalization and the clip.
        if self._normalized_c == "carried":
            c = normalize(c, params["state_norm"], self._epsilon)
        c = clip(c, self.cell_clip)
        o = gate("o", sigma, c)  # its peephole sees the new c
        return LSTMGates(i, f, g, o), c

    def output(self, params: Params, o: Array, c: Array) -> Array:
        """Return h', computed from σ(o) and c'."""
        if self._normalized_c == "output":  # only here: the carried c stays as it is
            c = normalize(c, params["state_norm"], self._epsilon)
        h = o * activation(self.output_function)(c)
        if self.projection is not None:
            h = h @ params["projection_kernel"]
            h = h + broadcast_leading(params["projection_bias"], h) if self.projection_bias else h
            h = clip(h, self.projection_clip)
        return h

    def _gate_weights(self, params: Params) -> tuple[Params, Params, Params]:
        """Return peepholes, scales and biases by gate; scales and biases only if sums are normalized."""
        names = self.gate_names
        peepholes = dict(zip(names.replace("g", ""), params["peephole_kernel"], strict=True)) if self.peephole else {}
        if self._normalizes != "sums":
            return peepholes, {}, {}
        scales = split_gates(params["gate_norm"]["scale"], names)._asdict()
        return peepholes, scales, split_gates(params["bias"], names)._asdict() if self.use_bias else {}

    @property
    def _normalizes(self) -> str:
        return "" if self.layer_norm is None else SCHEMES[self.layer_norm].normalizes

    @property
    def _normalized_c(self) -> str:
        return "" if self.layer_norm is None else SCHEMES[self.layer_norm].normalized_c

    @property
    def _epsilon(self) -> float:
        return self.layer_norm_epsilon or SCHEMES[self.layer_norm or "ba2016"].epsilon
