"""The Layer contract: a whole sequence in, a whole sequence out, as pure functions of parameters and carry."""

import abc
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jlstm import checks
from jlstm.arguments import answered
from jlstm.cell import Options, Params, PyTree
from jlstm.layers import carries
from jlstm.loop import Results, Steps


class Layer(Options, abc.ABC):
    """A recurrent layer. Subclasses are frozen dataclasses of options; their methods are pure.

    Callers use `init`, `initial_carry`, `apply`, `step` and `last_output`, which check what comes in. A new kind of layer defines
    what is abstract here: `draw`, `begin`, `run`, `run_step`, `output_of`, `flipped` and the properties.
    """

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: a layer has no parameters of its own."""
        raise TypeError(
            "a layer holds no parameters and is not called: write params = layer.init(key, features=…), then "
            "carry, ys = layer.apply(params, xs); jlstm.nnx and jlstm.linen have modules that are called"
        )

    @property
    @abc.abstractmethod
    def features_out(self) -> int:
        """The size of the last axis of the outputs."""

    @property
    def spatial_in(self) -> tuple[int, ...]:
        """The sizes of an input's axes between those of batch and time and the features: none, unless the layer says so."""
        return ()

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """The same of an output."""
        return ()

    @property
    def unmerged(self) -> bool:
        """Whether the outputs are two sequences, a dict with both directions, and so no inputs for another layer."""
        return False

    @property
    @abc.abstractmethod
    def stochastic(self) -> bool:
        """Whether a key makes a difference: it turns dropout on."""

    @property
    @abc.abstractmethod
    def time_major(self) -> bool:
        """Whether time is the first axis of inputs and outputs instead of the last but one."""

    @abc.abstractmethod
    def flipped(self) -> Self:
        """The same layer, run in the other direction."""

    @abc.abstractmethod
    def draw(self, key: Array, features: int) -> Params:
        """`init` from checked arguments."""

    @abc.abstractmethod
    def begin(self, params: Params, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
        """`initial_carry` from checked arguments."""

    @abc.abstractmethod
    def run(self, params: Params, steps: Steps, carry: PyTree | None, key: Array | None, noise: PyTree, states: bool) -> Results:
        """`apply` on checked, time-major steps."""

    @abc.abstractmethod
    def run_step(self, params: Params, carry: PyTree | None, x: Array, reset: Array | None) -> tuple[PyTree, Array]:
        """`step` on checked inputs."""

    @abc.abstractmethod
    def output_of(self, carry: PyTree) -> Any:
        """`last_output`."""

    @answered("layer.init")
    def init(self, key: Array, features: int) -> Params:
        """Draw the parameters.

        Args:
            key: a random key, as `jax.random.key(0)`.
            features: size of the inputs' last axis.

        Returns:
            A dict of arrays; of a Stack a tuple with the parameters of each layer, of a Bidirectional a dict with "forward" and
            "backward".

        Raises:
            TypeError: `key` is no key.
            ValueError: `features` is not a whole number of at least 1.
        """
        checks.key("key", key)
        if getattr(features, "ndim", 0):
            what = checks.brief(features)
            raise ValueError(f"features must be the size of the inputs' last axis, got {what}: pass features=xs.shape[-1]")
        return self.draw(key, checks.positive("features", features))

    @answered("layer.initial_carry")
    def initial_carry(self, params: Params, batch_shape: tuple[int, ...], dtype: Any = None) -> PyTree:
        """Return the carry that a sequence starts from when none is given.

        To carry a state from window to window with `lax.scan`, start from this: `apply` and `step` return the carry in the dtype
        of the one that they got, if that is the wider one. Where inputs are wider than parameters, pass `dtype=xs.dtype`.

        Args:
            params: as `init` makes them.
            batch_shape: the sizes of the inputs' axes before time and features, `xs.shape[:1]`, say.
            dtype: of the carry; None takes the layer's `dtype`, without one that of `params`.

        Returns:
            As the cell carries, `LSTMCarry(h, c)` for an LSTM; of a Stack a tuple with the carry of each layer, of a
            Bidirectional a dict with "forward" and "backward".

        Raises:
            TypeError: `batch_shape` is no tuple, or `dtype` not floating.
            ValueError: float64 is asked for while JAX has it off.
        """
        if dtype is not None:
            dtype = checks.float_dtype("dtype", dtype)
        batch_shape = checks.shape("batch_shape", batch_shape)
        if not jax.tree.leaves(params) and isinstance(params, Mapping | tuple):
            raise ValueError("params must be what init of this layer returned, got nothing: pass that")
        try:
            return self.begin(params, batch_shape, dtype)
        except (KeyError, IndexError, AttributeError) as error:
            raise ValueError(
                f"params must be what init of this layer returned, got {type(params).__name__}: pass that"
            ) from error

    @answered("layer.last_output")
    def last_output(self, carry: PyTree) -> Any:
        """Return the output of the last step that counts, from the last carry of `apply`.

        This is h_T, where T is the last step that `lengths` or `mask` let count, and for a layer with `reverse` the first; of a
        Stack it is the last layer's. A Bidirectional merges h_T of its forward with h_1 of its backward direction: both have
        then seen the whole sequence. `ys[:, -1]` is something else: zero for sequences with padding at their end, and of a
        backward direction the output after one single step.

        Args:
            carry: what `apply` or `step` returned.

        Returns:
            (*batch, features_out); with merge=None a dict of both directions. Where no step counts, the h to start from.

        Raises:
            ValueError: the carry of another layer, or the output is not the h that is carried, as with a Residual cell.

        Differs from: this is Keras's `return_sequences=False`; PyTorch's h_n holds the same of all layers and directions.

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
        noise: PyTree = None,
    ) -> tuple[PyTree, Float[Array, "*batch time features_out"]]:
        """Run over a sequence and return the last carry and the outputs of all steps, in `lax.scan`'s order.

        Args:
            params: as `init` makes them.
            xs: inputs; with `time_major` (time, *batch, features), and `mask` and `resets` follow. Of a layer with `spatial_in`
                those axes come before the features.
            carry: where to start; None takes `initial_carry`. The last carry comes back in its dtype, if that is wider than what
                the layer computes in, so that `lax.scan` can hand it on.
            lengths: how many steps of each sequence count, from its first; the rest is padding. Traced ones, which cannot be
                checked, are clipped to what there is.
            mask: which steps count, anywhere; instead of `lengths`. A step that does not count leaves the carry as it is,
                its output is zero, and what its input holds (NaN, say) reaches neither results nor gradients.
            resets: before which steps the layer's own initial carry is put back. Ignored where a step does not count.
            key: turns dropout on; no key means inference, also of a layer that has dropout.
            noise: the dropout masks themselves, instead of a key; see the cell.

        Returns:
            The last carry, and the outputs of all steps. The last output alone is `layer.last_output(carry)`, not `ys[:, -1]`,
            which is zero where that step is padding.

        Raises:
            ValueError: a shape does not fit, concrete `lengths` are out of range (traced ones are clipped), `lengths` and
                `mask` or `key` and `noise` are both given, float64 is asked for while JAX has it off.
            TypeError: inputs that are not floating, a `mask` or `resets` that is not boolean.
        """
        return self.checked_run(params, xs, carry, lengths, mask, resets, key, noise, states=False)[:2]

    @answered("layer.step")
    def step(
        self,
        params: Params,
        carry: PyTree | None,
        x: Float[Array, "*batch features"],
        *,
        reset: Bool[Array, "*batch"] | None = None,
    ) -> tuple[PyTree, Array]:
        """Run one time step, for streaming: `apply` on a sequence is this for each of its steps in turn, without dropout.

        Args:
            params: as `init` makes them.
            carry: what the step before returned; None takes `initial_carry`.
            x: inputs of one step, without a time axis: all its axes but the features are the batch's.
            reset: where the layer's own initial carry is put back before the step; `apply` with these as `resets` is the same.

        Returns:
            The carry, and the output of this step.

        Raises:
            ValueError: a shape does not fit, or the layer needs the whole sequence (reverse, Bidirectional).
            TypeError: inputs that are not floating, a `reset` that is not boolean.
        """
        _check_order(params, x, "layer.step(params, carry, x)")
        x = checks.inputs("x", x, axes=("features",), spatial=self.spatial_in)
        self._check_trees(params, carry, x.shape, "x")
        if reset is not None:
            reset = checks.flags("reset", reset, x.shape[: -1 - len(self.spatial_in)], "x")
        return self.run_step(params, carry, x, reset)

    def checked_run(
        self, params: Params, xs: Any, carry: PyTree, lengths: Any, mask: Any, resets: Any, key: Any, noise: Any, *, states: bool
    ) -> Results:
        """`run` on what `apply` takes; `states` asks for the carries of all steps."""
        _check_order(params, xs, "layer.apply(params, xs)")
        xs = checks.inputs("xs", xs, axes=("time", "features"), spatial=self.spatial_in)
        behind = len(self.spatial_in) + 1  # axes of one step of one sequence
        if lengths is not None and mask is not None:
            raise ValueError("lengths and mask are both given, expected at most one: put the lengths into the mask, or drop one")
        if key is not None and noise is not None:
            raise ValueError("key and noise are both given, expected at most one: noise holds the masks that a key would draw")
        if key is not None:
            checks.key("key", key)
        mask, resets = (
            None if v is None else checks.flags(n, v, xs.shape[:-behind], "xs") for n, v in (("mask", mask), ("resets", resets))
        )
        if not self.time_major:
            xs, mask, resets = _time_first(xs, -1 - behind), _time_first(mask, -1), _time_first(resets, -1)
        self._check_trees(params, carry, xs.shape[1:], "xs")
        if lengths is not None:
            lengths = checks.lengths(lengths, xs.shape[1:-behind], xs.shape[0])
            mask = jnp.expand_dims(jnp.arange(xs.shape[0]), range(1, xs.ndim - behind)) < jnp.expand_dims(lengths, 0)
        results = self.run(params, Steps(xs, mask, resets), carry, key, noise, states)
        if self.time_major:
            return results
        last = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, xs.ndim - 1 - behind), (results.ys, results.states))
        return Results(results.carry, *last)

    def _check_trees(self, params: Params, carry: PyTree, x_shape: tuple[int, ...], name: str) -> None:
        batch, features = x_shape[: -1 - len(self.spatial_in)], x_shape[-1]
        remedy = f"pass what init(key, features={features}) of this layer returns, or {name} with as many features as they have"
        checks.tree("params", params, param_shapes(self, features), remedy)
        if carry is not None:
            carries.check(carry, jax.eval_shape(lambda: self.begin(params, batch, "float32")), batch)


def _check_order(params: Any, xs: Any, example: str) -> None:
    if hasattr(params, "shape") and isinstance(xs, Mapping | tuple):
        raise TypeError(f"params and inputs are in each other's place, got an array and a {type(xs).__name__}: write {example}")


@lru_cache(maxsize=1024)
def param_shapes(layer: Layer, features: int) -> PyTree:
    """The shapes of a layer's parameters; nothing is computed."""
    with jax.enable_x64(True):  # shapes do not depend on it, and so the cache must not either
        return jax.eval_shape(lambda: layer.draw(jax.random.key(0), features))


def _time_first(leaf: Array | None, axis: int) -> Any:
    return None if leaf is None else jnp.moveaxis(leaf, axis, 0)
