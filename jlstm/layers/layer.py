"""The Layer contract: pure functions that map parameters, a carry and a sequence to a new carry and a sequence."""

import abc
from collections.abc import Mapping
from typing import Any, NoReturn, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jlstm._src import checks
from jlstm._src.arguments import answered
from jlstm._src.loop import Results, Steps
from jlstm.cell import Options, Params, PyTree
from jlstm.layers.bound import Bound
from jlstm.layers.shapes import check_order, check_params, check_trees, checked_steps
from jlstm.layers.tree import Tree


class Layer(Tree, Options, abc.ABC):
    """A recurrent layer. Subclasses are frozen dataclasses of options; their methods are pure.

    Callers use `init`, `bind`, `initial_carry`, `apply`, `step` and `last_output`, which check their arguments. A new kind
    of layer defines the abstract methods, which get checked arguments. If it is made of layers, it is a `Composite`.

    Examples:
        >>> import jax, jlstm
        >>> layer, xs = jlstm.LSTM(4), jax.numpy.ones((2, 5, 3))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, xs)
        >>> carry, y = layer.step(params, carry, xs[:, 0])  # one more step
        >>> ys.shape, y.shape
        ((2, 5, 4), (2, 4))
    """

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError: a layer holds no parameters, so it cannot be called."""
        raise TypeError(
            "a layer holds no parameters and is not called: write params = layer.init(key, features=…), then "
            "carry, ys = layer.apply(params, xs), or ys = layer.bind(params)(xs); jlstm.nnx and jlstm.linen have modules"
        )

    @property
    @abc.abstractmethod
    def features_out(self) -> int:
        """The size of the last axis of the outputs."""

    @property
    def spatial_in(self) -> tuple[int, ...]:
        """The sizes of the spatial axes of the inputs, which stand between time and features; () if there are none."""
        return ()

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """The sizes of the spatial axes of the outputs."""
        return ()

    @property
    def unmerged(self) -> bool:
        """Whether the outputs are a dict of two sequences, one for each direction, which no other layer takes as inputs."""
        return False

    @property
    @abc.abstractmethod
    def stochastic(self) -> bool:
        """Whether a random key changes the results, because it turns dropout on."""

    @property
    @abc.abstractmethod
    def time_major(self) -> bool:
        """Whether time is the first axis of inputs and outputs. If not, it stands between batch and features."""

    @abc.abstractmethod
    def features_in(self, params: Params) -> int:
        """Return the size of the last axis of the inputs that the parameters are for.

        Raises:
            KeyError, IndexError, TypeError or AttributeError: `params` are those of another layer.
        """

    @abc.abstractmethod
    def flipped(self) -> Self:
        """Return the same layer, run in the other direction."""

    @abc.abstractmethod
    def draw(self, key: Array, features: int) -> Params:
        """Return what `init` returns, for checked arguments."""

    @abc.abstractmethod
    def begin(self, params: Params, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
        """Return what `initial_carry` returns, for checked arguments."""

    @abc.abstractmethod
    def run(
        self, params: Params, steps: Steps, carry: PyTree | None, key: Array | None, dropout_masks: PyTree, states: bool
    ) -> Results:
        """Return the results of `apply`, for checked arguments with time first, and the carries after all steps if `states`."""

    @abc.abstractmethod
    def run_step(self, params: Params, carry: PyTree | None, x: Array, reset: Array | None) -> tuple[PyTree, Array]:
        """Return what `step` returns, for checked arguments."""

    @abc.abstractmethod
    def output_of(self, carry: PyTree) -> Any:
        """Return what `last_output` returns; raise KeyError, IndexError or TypeError for the carry of another layer."""

    @answered("layer.init")
    def init(self, key: Array, features: int) -> Params:
        """Draw the parameters.

        Args:
            key: a random key, such as `jax.random.key(0)`.
            features: size of the last axis of the inputs.

        Returns:
            A dict of arrays; a tuple of such dicts for a Stack, a dict of them by direction for a Bidirectional.

        Raises:
            TypeError: `key` is not a random key.
            ValueError: `features` is not a whole number of at least 1.
        """
        checks.key("key", key)
        if getattr(features, "ndim", 0):
            what = checks.brief(features)
            raise ValueError(f"features must be the size of the inputs' last axis, got {what}: pass features=xs.shape[-1]")
        return self.draw(key, checks.positive("features", features))

    @answered("layer.bind")
    def bind(self, params: Params) -> Bound:
        """Return this layer and its parameters as one pytree, which is called: `bound(xs)` returns the outputs.

        Args:
            params: parameters as `init` returns them. For stacked ones, as of an ensemble, write `jax.vmap(layer.bind)(params)`.

        Raises:
            ValueError: `params` are not those of this layer.
            TypeError: an array is not floating.

        Examples:
            >>> import jax, jlstm
            >>> layer, xs = jlstm.LSTM(4), jax.numpy.ones((2, 5, 3))
            >>> bound = layer.bind(layer.init(jax.random.key(0), features=3))
            >>> gradients = jax.grad(lambda bound: bound(xs).sum())(bound)
            >>> bound(xs).shape, gradients.params["kernel"].shape
            ((2, 5, 4), (3, 16))
        """
        check_params(self, params)
        return Bound(self, params)

    @answered("layer.initial_carry")
    def initial_carry(self, params: Params, batch_shape: tuple[int, ...], dtype: Any = None) -> PyTree:
        """Return the carry that a sequence starts from when the caller passes none.

        Use it as the first carry when `lax.scan` passes the carry from window to window: `apply` and `step` return the carry in
        the dtype of the carry that they got, if that dtype is wider. If `xs` is wider than `params`, pass `dtype=xs.dtype`.

        Args:
            params: parameters as `init` returns them.
            batch_shape: sizes of the batch axes of the inputs, for example `xs.shape[:1]`.
            dtype: dtype of the carry. None takes the layer's `dtype`, or the dtype of `params` if that is None too.

        Returns:
            The carry of the cell, `LSTMCarry(h, c)` for an LSTM. For a Stack or a Bidirectional it is a tree like the parameters.

        Raises:
            TypeError: `batch_shape` is not a tuple or list, or `dtype` is not floating.
            ValueError: `params` are not those of this layer, or float64 is asked for while JAX has it off.
        """
        if dtype is not None:
            dtype = checks.float_dtype("dtype", dtype)
        batch_shape = checks.shape("batch_shape", batch_shape)
        if not jax.tree.leaves(params) and isinstance(params, Mapping | tuple):
            raise ValueError("params must be what init of this layer returned, got nothing: pass that")
        try:
            return self.begin(params, batch_shape, dtype)
        except (KeyError, IndexError, AttributeError) as error:
            got = type(params).__name__
            raise ValueError(f"params must be what init of this layer returned, got {got}: pass that") from error

    @answered("layer.last_output")
    def last_output(self, carry: PyTree) -> Any:
        """Return the output of the last step that counts, taken from the last carry of `apply`.

        This is h_T, where T is the last step that counts by `lengths` or `mask`. For a layer with `reverse` it is the first such
        step. A Stack returns the last output of its last layer. A Bidirectional merges h_T of the forward direction with h_1 of
        the backward direction: both have then seen the whole sequence. `ys[:, -1]` is different: it is zero for sequences with
        padding at the end, and for a backward direction it is the output after a single step.

        Args:
            carry: the carry that `apply` or `step` returned.

        Returns:
            An array (*batch, features_out), or with merge=None a dict of both directions. Where no step counts, the initial h.

        Raises:
            ValueError: `carry` is that of another layer, or the carry does not hold the output, as with a Residual cell.

        Differs from: Keras returns this with `return_sequences=False`; PyTorch's h_n holds it for all layers and directions.

        Examples:
            >>> import jax, jlstm
            >>> layer = jlstm.Bidirectional(jlstm.LSTM(4))
            >>> params = layer.init(jax.random.key(0), features=3)
            >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)), lengths=jax.numpy.array([5, 2]))
            >>> layer.last_output(carry).shape
            (2, 8)
        """
        try:
            return self.output_of(carry)
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"carry must be what apply of this layer returned, got {type(carry).__name__}: pass that") from error

    @answered("layer.apply")
    def apply(
        self,
        params: Params,
        xs: Float[Array, "*batch time features"],
        carry: PyTree | None = None,
        *,
        lengths: Int[Array, "*batch"] | None = None,
        mask: Bool[Array, "*batch time"] | None = None,
        resets: Bool[Array, "*batch time"] | None = None,
        key: Array | None = None,
        dropout_masks: PyTree = None,
    ) -> tuple[PyTree, Float[Array, "*batch time features_out"]]:
        """Run over a sequence and return the last carry and the outputs of all steps.

        Args:
            params: parameters as `init` returns them.
            xs: inputs (*batch, time, features), floating. With `time_major`, `xs`, `mask` and `resets` have time as their first
                axis. The axes `spatial_in`, if there are any, stand before the features.
            carry: initial carry; None takes `initial_carry`. The last carry has its dtype, if that is wider than the compute
                dtype, so that `lax.scan` can pass it on.
            lengths: number of steps of each sequence that count, from the first one; the others are padding. Traced lengths
                cannot be checked; they are clipped to [0, time].
            mask: True at each step that counts, in place of `lengths`. A step that does not count leaves the carry unchanged and
                its output is zero. Its input, even NaN, reaches neither results nor gradients.
            resets: True at each step before which the carry becomes the initial carry again. Ignored at steps that do not count.
            key: random key, which turns dropout on. Without a key the layer runs in inference mode.
            dropout_masks: the masks themselves, in place of a key; see the cell.

        Returns:
            The last carry, and the outputs (*batch, time, features_out) of all steps. For the last output alone use
            `layer.last_output(carry)`: `ys[:, -1]` is zero where that step is padding.

        Raises:
            ValueError: a shape does not fit, concrete `lengths` are out of range, `lengths` and `mask` are both given, `key` and
                `dropout_masks` are both given, or float64 is asked for while JAX has it off.
            TypeError: `xs` is not floating, or `mask` or `resets` is not boolean.
        """
        return self.checked_run(params, xs, carry, lengths, mask, resets, key, dropout_masks, states=False)[:2]

    @answered("layer.step")
    def step(
        self,
        params: Params,
        carry: PyTree | None,
        x: Float[Array, "*batch features"],
        *,
        reset: Bool[Array, "*batch"] | None = None,
    ) -> tuple[PyTree, Array]:
        """Run one time step without dropout, for streaming; calls step by step give the same as one `apply` on the sequence.

        Args:
            params: parameters as `init` returns them.
            carry: the carry that the previous step returned; None takes `initial_carry`.
            x: inputs of one step (*batch, features), floating, without a time axis.
            reset: True where the carry becomes the initial carry again before the step, as with `resets` of `apply`.

        Returns:
            The new carry, and the output (*batch, features_out) of this step.

        Raises:
            ValueError: a shape does not fit, or the layer needs the whole sequence (reverse, Bidirectional).
            TypeError: `x` is not floating, or `reset` is not boolean.
        """
        check_order(params, x, "layer.step(params, carry, x)")
        x = checks.inputs("x", x, axes=("features",), spatial=self.spatial_in)
        check_trees(self, params, carry, x.shape, "x")
        if reset is not None:
            reset = checks.flags("reset", reset, x.shape[: -1 - len(self.spatial_in)], "x")
        return self.run_step(params, carry, x, reset)

    def checked_run(self, params: Params, xs: Any, carry: PyTree, *sequence: Any, states: bool) -> Results:
        """Check the arguments of `apply`, whose keyword arguments are `sequence`, and return the results of `run`.

        The time axis of `ys` and `states` stands where it is in `xs`. Errors are those of `apply`.
        """
        lengths, mask, resets, key, dropout_masks = sequence
        if key is not None and dropout_masks is not None:
            raise ValueError("key and dropout_masks are both given, expected at most one: a key draws such masks")
        if key is not None:
            checks.key("key", key)
        steps = checked_steps(self, params, xs, carry, lengths, mask, resets)
        results = self.run(params, steps, carry, key, dropout_masks, states)
        if self.time_major:
            return results
        time_axis = steps.xs.ndim - 2 - len(self.spatial_in)
        batch_first = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, time_axis), (results.ys, results.states))
        return Results(results.carry, *batch_first)
