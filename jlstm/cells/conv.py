"""The convolutional LSTM: its equations and nothing else."""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm import checks
from jlstm.activations import Activation, activation
from jlstm.cell import Carry, Cell, Noise, Params
from jlstm.cells.convolution import Sizes, axes, by_gate_merged, convolve, convolve_steps, sizes_after
from jlstm.cells.gates import Gates, by_gate
from jlstm.cells.normalization import along
from jlstm.dropout import bernoulli_masks, gated_matmul
from jlstm.initializers import Initializer, draw, initializer


@dataclass(frozen=True, repr=False)
class ConvLSTMCell(Cell):
    """Long short-term memory of pictures, or of lines or volumes: an LSTM with convolutions for its matrix products.

    With * a convolution over the spatial axes, σ the recurrent activation and φ the activation, one step is

        i, f, g, o = split(x * W + h * U + b)
        c' = σ(f) ⊙ c + σ(i) ⊙ φ(g)
        h' = σ(o) ⊙ φ(c')

    Inputs are (*batch, time, *spatial, features), outputs, h and c alike, with `filters` features. The convolution of h keeps
    its spatial sizes: it is padded with zeros, without strides and dilation.

    Parameters: `kernel` W (*kernel_size, features, 4·filters), `recurrent_kernel` U (*kernel_size, filters, 4·filters), `bias` b
    (4·filters,), columns i | f | g | o. These are Keras' names, shapes and order. The forget bias is in `bias` from the start.

    Args:
        filters: features of h and c.
        kernel_size: of both kernels; like `strides` and `dilation` one number, or one for each spatial axis.
        spatial: the inputs' spatial sizes: 1, 2 or 3 of them.
        strides: steps between the places where x is convolved.
        padding: of x, "valid" (none) or "same" (zeros, so that only strides make the outputs smaller).
        dilation: steps between the weights on x.
        peephole: i and f also see c, and o sees c', each place through weights of its own: `peephole_kernel` (3, *spatial sizes
            of the outputs, filters), rows i, f, o, added to their sums as p ⊙ c.
        activation: φ, a name or a callable. A callable equals only itself, so that a new one makes `jit` compile again.
        recurrent_activation: σ.
        use_bias: whether there is a `bias`.
        forget_bias: initial value of the forget gate's bias; None leaves it to `bias_init`.
        dropout: share of x zeroed, one mask for a whole sequence (Gal & Ghahramani 2016).
        recurrent_dropout: share of h zeroed where it enters the gates; each gate then has its own masks, for x too, as in Keras.
        kernel_init, recurrent_init, bias_init: a name or a callable `(key, shape, dtype) -> array`. Peepholes start at zero.

    Raises:
        ValueError: a size ≤ 0, sizes that do not fit each other, a rate outside [0, 1), an unknown name.

    Reference: Shi et al. 2015.
    Differs from: Keras reads the spatial sizes off the inputs and refuses strides with dilation; the paper pads as "same" does
    and has peepholes; Flax has two biases, columns i | g | f | o, strides for h too, and adds 1 to the forget gate at run time.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(jlstm.ConvLSTMCell(4, kernel_size=3, spatial=(8, 6), padding="same"))
        >>> params = layer.init(jax.random.key(0), features=2)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((5, 7, 8, 6, 2)))
        >>> ys.shape, carry.c.shape
        ((5, 7, 8, 6, 4), (5, 8, 6, 4))
    """

    filters: int
    kernel_size: Sizes
    spatial: tuple[int, ...]
    _: KW_ONLY
    strides: Sizes = 1
    padding: str = "valid"
    dilation: Sizes = 1
    peephole: bool = False
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    use_bias: bool = True
    forget_bias: float | None = 1.0
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    kernel_init: Initializer = "glorot_uniform"
    recurrent_init: Initializer = "orthogonal"
    bias_init: Initializer = "zeros"

    def __post_init__(self) -> None:
        for name in ("use_bias", "peephole"):
            checks.flag(name, getattr(self, name))
        sizes = tuple(self.spatial) if isinstance(self.spatial, Iterable) else (self.spatial,)
        normal: dict[str, Any] = {"spatial": tuple(checks.positive("spatial", size) for size in sizes)}
        if len(sizes) not in (1, 2, 3):
            raise ValueError(f"spatial must be 1, 2 or 3 sizes, those of the inputs without batch, time, features, got {sizes!r}")
        normal["filters"] = checks.positive("filters", self.filters)
        normal |= {n: checks.per_axis(n, getattr(self, n), len(sizes)) for n in ("kernel_size", "strides", "dilation")}
        normal |= {name: checks.rate(name, getattr(self, name)) for name in ("dropout", "recurrent_dropout")}
        normal["forget_bias"] = checks.forget_bias(self.forget_bias, type(self).forget_bias, biased=self.use_bias)
        for name, value in normal.items():
            object.__setattr__(self, name, value)
        checks.one_of("padding", self.padding, ("valid", "same"))
        for function in (self.activation, self.recurrent_activation):
            activation(function)
        for init in (self.kernel_init, self.recurrent_init, self.bias_init):
            initializer(init)
        if min(self.spatial_out) < 1:
            raise ValueError(
                f"kernel_size {self.kernel_size} with dilation {self.dilation} must fit into the spatial sizes {self.spatial}: "
                "make it smaller, or padding='same'"
            )

    @property
    def spatial_in(self) -> tuple[int, ...]:
        """The sizes that the cell is made for: `spatial`."""
        return self.spatial

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """What strides and padding make of them."""
        return sizes_after(self.spatial, self.kernel_size, self.strides, self.padding, self.dilation)

    @property
    def features_out(self) -> int:
        """The features of h: `filters`."""
        return self.filters

    @property
    def stochastic(self) -> bool:
        """Whether there is dropout."""
        return bool(self.dropout or self.recurrent_dropout)

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        """Draw `kernel`, `recurrent_kernel` and what the options ask for."""
        checks.positive("features", features)
        window, columns = axes(self.kernel_size, len(self.spatial)), 4 * self.filters
        for_kernel, for_recurrent, for_bias = jax.random.split(key, 3)
        params = {
            "kernel": draw(self.kernel_init, for_kernel, (*window, features, columns), dtype),
            "recurrent_kernel": draw(self.recurrent_init, for_recurrent, (*window, self.filters, columns), dtype),
        }
        if self.use_bias:
            params["bias"] = draw(self.bias_init, for_bias, (columns,), dtype)
            if self.forget_bias is not None:
                params["bias"] = params["bias"].at[self.filters : 2 * self.filters].set(self.forget_bias)
        if self.peephole:
            params["peephole_kernel"] = jnp.zeros((3, *self.spatial_out, self.filters), dtype)
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

        `noise` may hold `inputs` (gates, *batch, *spatial, features) and `recurrent` (gates, *batch, *spatial sizes of h,
        filters), factors of x and h; gates is 4 (one mask a gate) or 1 (one mask for all).
        """
        carry = Carry(*(jnp.zeros((*batch_shape, *self.spatial_out, self.filters), dtype) for _ in range(2)))
        sizes = {"inputs": (*self.spatial, self.features_in(params)), "recurrent": (*self.spatial_out, self.filters)}
        if noise is not None:
            return carry, checks.noise(noise, gates=4, batch_shape=batch_shape, sizes=sizes, dtype=dtype)
        gates = 4 if self.recurrent_dropout else 1
        rates = {"inputs": self.dropout, "recurrent": self.recurrent_dropout}
        return carry, bernoulli_masks(key, rates, {name: (gates, *batch_shape, *size) for name, size in sizes.items()}, dtype)

    def project(self, params: Params, context: Noise, xs: Float[Array, "time *batch_and_space features"]) -> Gates:
        """x * W + b, for all steps in one convolution."""
        product = partial(convolve_steps, strides=self.strides, padding=self.padding, dilation=self.dilation)
        masks = context.get("inputs")
        zs = gated_matmul(xs, params["kernel"], masks if masks is None else jnp.expand_dims(masks, 1), product)
        return by_gate(zs + along(params["bias"], zs) if self.use_bias else zs)

    def gates(self, params: Params, context: Noise, carry: Carry, z: Gates) -> Gates:
        """σ(i), σ(f), φ(g) and σ(o)."""
        return self._through(params, context, carry, z)[0]

    def step(self, params: Params, context: Noise, carry: Carry, z: Gates) -> tuple[Carry, Array]:
        """The equations."""
        gates, c = self._through(params, context, carry, z)
        h = gates.o * activation(self.activation)(c)
        return Carry(h, c), h

    def _through(self, params: Params, context: Noise, carry: Carry, z: Gates) -> tuple[Gates, Array]:
        gate, phi = activation(self.recurrent_activation), activation(self.activation)
        recurrent = gated_matmul(carry.h, params["recurrent_kernel"], context.get("recurrent"), convolve)
        i, f, g, o = jax.tree.map(jnp.add, z, by_gate_merged(recurrent, len(self.spatial)))
        see = dict(zip("ifo", params["peephole_kernel"], strict=True)) if self.peephole else {}

        def let(name: str, total: Array, c: Array) -> Array:
            return gate(total + along(see[name], c) * c if see else total)

        i, f, g = let("i", i, carry.c), let("f", f, carry.c), phi(g)
        c = f * carry.c + i * g
        return Gates(i, f, g, let("o", o, c)), c
