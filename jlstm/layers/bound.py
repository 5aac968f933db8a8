"""A layer and its parameters as one pytree."""

from dataclasses import dataclass, field
from typing import Any

import jax
from jaxtyping import Array

from jlstm.cell import Params, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Bound:
    """A layer and its parameters as one pytree, made by `layer.bind(params)`. Methods are those of the layer, without `params`.

    The leaves are the parameters, and the layer is part of the structure. `jax.jit`, `jax.grad` and `jax.vmap` therefore take a
    bound layer as an argument, and `jax.tree.map` and optax return one: `jax.grad` returns a bound layer whose parameters are the
    gradients.

    Attributes:
        layer: the layer.
        params: its parameters.

    Examples:
        >>> import jax, jlstm, optax
        >>> layer, xs = jlstm.LSTM(4), jax.numpy.ones((2, 5, 3))
        >>> bound = layer.bind(layer.init(jax.random.key(0), features=3))
        >>> optimizer = optax.sgd(0.1)
        >>> opt_state = optimizer.init(bound)
        >>> gradients = jax.jit(jax.grad(lambda bound: (bound(xs) ** 2).mean()))(bound)
        >>> updates, opt_state = optimizer.update(gradients, opt_state)
        >>> bound = optax.apply_updates(bound, updates)
        >>> bound
        Bound(RNN(cell=LSTMCell(units=4)), shapes={'bias': (16,), 'kernel': (3, 16), 'recurrent_kernel': (4, 16)})
    """

    layer: Any = field(metadata={"static": True})
    params: Params

    def __call__(self, xs: Array, carry: PyTree | None = None, **sequence: Any) -> Any:
        """Return the outputs `ys` of `apply`, for the same arguments."""
        return self.apply(xs, carry, **sequence)[1]

    def apply(self, xs: Array, carry: PyTree | None = None, **sequence: Any) -> tuple[PyTree, Any]:
        """Run `Layer.apply`; `sequence` holds its keyword arguments `lengths`, `mask`, `resets`, `key` and `dropout_masks`."""
        return self.layer.apply(self.params, xs, carry, **sequence)

    def step(self, carry: PyTree | None, x: Array, *, reset: Array | None = None) -> tuple[PyTree, Array]:
        """Run `Layer.step`: one time step, without dropout, for `jax.lax.scan` and streaming."""
        return self.layer.step(self.params, carry, x, reset=reset)

    def initial_carry(self, batch_shape: tuple[int, ...], dtype: Any = None) -> PyTree:
        """Return `Layer.initial_carry`: where a sequence starts from when no carry is passed."""
        return self.layer.initial_carry(self.params, batch_shape, dtype)

    def last_output(self, carry: PyTree) -> Any:
        """Return `Layer.last_output`: the output of the last step that counts."""
        return self.layer.last_output(carry)

    @property
    def features_out(self) -> int:
        """The size of the outputs' last axis."""
        return self.layer.features_out

    def __repr__(self) -> str:
        shapes = jax.tree.map(lambda leaf: getattr(leaf, "shape", leaf), self.params)  # JAX may hold other objects in their place
        return f"Bound({self.layer!r}, shapes={shapes})"
