"""The convolutional LSTM: an LSTM whose matrix products are convolutions."""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm._src import checks
from jlstm._src.arrays import broadcast_leading, masked_matmul
from jlstm.activations import Activation
from jlstm.cell import DropoutMasks, Params
from jlstm.cells.base import RecurrentCell
from jlstm.cells.convolution import Sizes, axes, convolve, convolve_steps, sizes_after, split_gates_merged
from jlstm.cells.lstm import LSTMCell
from jlstm.cells.tuples import LSTMCarry, LSTMGates, split_gates
from jlstm.initializers import Initializer, draw


@dataclass(frozen=True, repr=False)
class ConvLSTMCell(RecurrentCell):
    """Convolutional LSTM for sequences of images, lines or volumes: convolutions take the place of the matrix products.

    With * a convolution over the spatial axes, σ the recurrent activation and φ the activation, one step is

        i, f, g, o = split(x * W + h * U + b)
        c' = σ(f) ⊙ c + σ(i) ⊙ φ(g)
        h' = σ(o) ⊙ φ(c')

    Inputs are (*batch, time, *spatial, features). Outputs, h and c have `filters` features. The convolution of h is padded with
    zeros and has no strides and no dilation, so that it keeps the spatial sizes.

    Parameters: `kernel` W (*kernel_size, features, 4·filters), `recurrent_kernel` U (*kernel_size, filters, 4·filters), `bias` b
    (4·filters,), columns i | f | g | o. Names, shapes and order are Keras's. `bias` includes the forget bias.

    Args:
        filters: number of features of h and c.
        kernel_size: window of both kernels: one number, or one for each spatial axis, as for `strides` and `dilation`.
        spatial: the 1, 2 or 3 spatial sizes of the inputs.
        strides: steps between the places where x is convolved.
        padding: padding of x: "valid" (none) or "same" (zeros, so that only strides make the outputs smaller).
        dilation: steps between the weights on x.
        peephole: whether the gates i and f see c and the gate o sees c'. Each place has separate weights: `peephole_kernel` p
            (3, *spatial_out, filters), rows i, f, o. p ⊙ c is added to the sum that enters the gate.
        activation: φ, a name or a callable. A callable equals only itself, so that a new one makes `jit` compile again.
        recurrent_activation: σ, a name or a callable.
        use_bias: whether there is a `bias`.
        forget_bias: initial bias of the forget gate; None leaves it to `bias_init`.
        dropout: share of x that is zeroed, with one mask for a whole sequence (Gal & Ghahramani, 2016).
        recurrent_dropout: share of h that is zeroed where it enters the gates. With it each gate has separate masks, also for x,
            as in Keras.
        kernel_init, recurrent_init, bias_init: a name or a callable `(key, shape, dtype) -> array`. Peepholes start at zero.

    Raises:
        ValueError: a size is ≤ 0, sizes do not fit each other, a rate is outside [0, 1), or a name is unknown.

    References:
        Shi et al., 2015, "Convolutional LSTM network: a machine learning approach for precipitation nowcasting",
        https://arxiv.org/abs/1506.04214.
        Gal & Ghahramani, 2016, "A theoretically grounded application of dropout in recurrent neural networks",
        https://arxiv.org/abs/1512.05287.
    Differs from: Keras reads the spatial sizes off the inputs and refuses strides with dilation. The paper pads as "same" does
    and has peepholes. Flax has two biases, columns i | g | f | o, strides for h too, and adds 1 to the forget gate at run time.

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

    carry_type = LSTMCarry

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = tuple(self.spatial) if isinstance(self.spatial, Iterable) else (self.spatial,)
        if len(sizes) not in (1, 2, 3):
            raise ValueError(f"spatial must be 1, 2 or 3 sizes, those of the inputs without batch, time, features, got {sizes!r}")
        self._store(
            spatial=tuple(checks.positive("spatial", size) for size in sizes),
            forget_bias=checks.forget_bias(self.forget_bias, type(self).forget_bias, biased=self.use_bias),
            **{name: checks.per_axis(name, getattr(self, name), len(sizes)) for name in ("kernel_size", "strides", "dilation")},
        )
        checks.one_of("padding", self.padding, ("valid", "same"))
        # Last, since `spatial_out` needs checked sizes and padding.
        if min(self.spatial_out) < 1:
            raise ValueError(
                f"kernel_size {self.kernel_size} with dilation {self.dilation} must fit into the spatial sizes {self.spatial}: "
                "make it smaller, or padding='same'"
            )

    @property
    def spatial_in(self) -> tuple[int, ...]:
        return self.spatial

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """The sizes of the spatial axes of the outputs, after strides and padding."""
        return sizes_after(self.spatial, self.kernel_size, self.strides, self.padding, self.dilation)

    @property
    def features_out(self) -> int:
        return self.filters

    @property
    def hoisting_obstacle(self) -> str:
        return "a convolution of all steps at once would gather a batch that is divided among devices"

    @property
    def mask_gates(self) -> int:
        """4, for the gates i, f, g and o."""
        return 4

    def carry_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((*self.spatial_out, self.filters),) * 2

    def mask_sizes(self, params: Params) -> dict[str, int | tuple[int, ...]]:
        """Return the shapes of the masks `inputs` for x and `recurrent` for h."""
        return {"inputs": (*self.spatial, self.features_in(params)), "recurrent": (*self.spatial_out, self.filters)}

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
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
                # Columns are i | f | g | o, so those of f are the second block.
                params["bias"] = params["bias"].at[self.filters : 2 * self.filters].set(self.forget_bias)
        if self.peephole:
            # Rows i, f, o, with weights for each place (Shi et al., 2015). Zeros: the cell starts as one without peepholes.
            params["peephole_kernel"] = jnp.zeros((3, *self.spatial_out, self.filters), dtype)
        return params

    def project(self, params: Params, context: DropoutMasks, xs: Float[Array, "time *batch_and_space features"]) -> LSTMGates:
        """Return x * W + b for all steps, computed in one convolution and split by gate."""
        product = partial(convolve_steps, strides=self.strides, padding=self.padding, dilation=self.dilation)
        masks = context.get("inputs")  # (gates, *batch, *spatial, features): the new axis 1 is time
        zs = masked_matmul(xs, params["kernel"], masks if masks is None else jnp.expand_dims(masks, 1), product)
        return split_gates(zs + broadcast_leading(params["bias"], zs) if self.use_bias else zs)

    def gates(self, params: Params, context: DropoutMasks, carry: LSTMCarry, z: LSTMGates) -> LSTMGates:
        """Return σ(i), σ(f), φ(g) and σ(o)."""
        return self._lstm.activate(params, context, carry.c, self.sums(params, context, carry, z))[0]

    def sums(self, params: Params, context: DropoutMasks, carry: LSTMCarry, z: LSTMGates) -> LSTMGates:
        """Return x * W + h * U + b, split by gate."""
        # By default `convolve` pads with zeros and has no strides, so that h keeps its spatial sizes.
        products = masked_matmul(carry.h, params["recurrent_kernel"], context.get("recurrent"), convolve)
        return jax.tree.map(jnp.add, z, split_gates_merged(products, len(self.spatial)))

    def advance(self, params: Params, context: DropoutMasks, carry: LSTMCarry, sums: LSTMGates) -> tuple[LSTMCarry, Array]:
        return self._lstm.advance(params, context, carry, sums)

    # The LSTM whose equations hold at each place, once the sums that enter the gates are known.
    @property
    def _lstm(self) -> LSTMCell:
        # Only the options that `advance` reads. Kernels, bias and dropout have acted on the sums already.
        options = {name: getattr(self, name) for name in ("activation", "recurrent_activation", "peephole")}
        return LSTMCell(self.filters, **options)
