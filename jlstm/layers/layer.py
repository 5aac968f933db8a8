"""The Layer contract: a whole sequence in, a whole sequence out, as pure functions of parameters and carry."""

import abc
from functools import lru_cache
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jlstm import checks
from jlstm.cell import Options, Params, PyTree
from jlstm.loop import Results, Steps


class Layer(Options, abc.ABC):
    """A recurrent layer. Subclasses are frozen dataclasses of options; their methods are pure.

    A new kind of layer defines what is abstract here: `init`, `initial_carry`, `run`, `run_step`, `flipped` and the properties.
    Callers use `init`, `apply` and `step`.
    """

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
    def init(self, key: Array, features: int) -> Params:
        """Draw the parameters for inputs with `features` features."""

    @abc.abstractmethod
    def initial_carry(self, params: Params, batch_shape: tuple[int, ...], dtype: Any = None) -> PyTree:
        """The carry that a sequence of this dtype starts from when none is given; without one, of the layer's or of `params`'."""

    @abc.abstractmethod
    def run(self, params: Params, steps: Steps, carry: PyTree | None, key: Array | None, noise: PyTree, states: bool) -> Results:
        """`apply` on checked, time-major steps."""

    @abc.abstractmethod
    def run_step(self, params: Params, carry: PyTree | None, x: Array) -> tuple[PyTree, Array]:
        """`step` on checked inputs."""

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
            carry: where to start; None takes `initial_carry`.
            lengths: how many steps of each sequence count, from its first; the rest is padding. Traced ones, which cannot be
                checked, are clipped to what there is.
            mask: which steps count, anywhere; instead of `lengths`. A step that does not count leaves the carry as it is,
                its output is zero, and what its input holds (NaN, say) reaches neither results nor gradients.
            resets: before which steps the layer's own initial carry is put back. Ignored where a step does not count.
            key: turns dropout on; no key means inference.
            noise: the dropout masks themselves, instead of a key; see the cell.

        Raises:
            ValueError: a shape does not fit, concrete `lengths` are out of range (traced ones are clipped), `lengths` and
                `mask` or `key` and `noise` are both given, float64 is asked for while JAX has it off.
            TypeError: inputs that are not floating, a `mask` or `resets` that is not boolean.
        """
        return self._checked_run(params, xs, carry, lengths, mask, resets, key, noise, states=False)[:2]

    def step(self, params: Params, carry: PyTree | None, x: Float[Array, "*batch features"]) -> tuple[PyTree, Array]:
        """Run one time step, for streaming: `apply` on a sequence is this for each of its steps in turn, without dropout.

        Raises:
            ValueError: a shape does not fit, or the layer needs the whole sequence (reverse, Bidirectional).
        """
        x = checks.inputs("x", x, axes=("features",), spatial=self.spatial_in)
        self._check_trees(params, carry, x.shape, "x")
        return self.run_step(params, carry, x)

    def _checked_run(
        self, params: Params, xs: Any, carry: PyTree, lengths: Any, mask: Any, resets: Any, key: Any, noise: Any, *, states: bool
    ) -> Results:
        xs = checks.inputs("xs", xs, axes=("time", "features"), spatial=self.spatial_in)
        behind = len(self.spatial_in) + 1  # axes of one step of one sequence
        if lengths is not None and mask is not None:
            raise ValueError("lengths and mask are both given, expected at most one: put the lengths into the mask, or drop one")
        if key is not None and noise is not None:
            raise ValueError("key and noise are both given, expected at most one: noise holds the masks that a key would draw")
        mask, resets = (
            None if v is None else checks.flags(n, v, xs.shape[:-behind]) for n, v in (("mask", mask), ("resets", resets))
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
        if hasattr(carry, "shape"):
            raise ValueError(f"carry must be a tree like Carry(h, c), got an array of shape {carry.shape}: pass lengths by name")
        if carry is not None:
            expected = jax.eval_shape(lambda: self.initial_carry(params, batch, "float32"))
            checks.tree("carry", carry, expected, f"pass initial_carry(params, {batch}) or what apply returned for such a batch")


@lru_cache(maxsize=1024)
def param_shapes(layer: Layer, features: int) -> PyTree:
    """The shapes of a layer's parameters; nothing is computed."""
    with jax.enable_x64(True):  # shapes do not depend on it, and so the cache must not either
        return jax.eval_shape(lambda: layer.init(jax.random.key(0), features))


def _time_first(leaf: Array | None, axis: int) -> Any:
    return None if leaf is None else jnp.moveaxis(leaf, axis, 0)


def cell_states(
    layer: Layer,
    params: Params,
    xs: Float[Array, "*batch time features"],
    carry: PyTree | None = None,
    *,
    lengths: Int[Array, "*batch"] | None = None,
    mask: Bool[Array, "*batch time"] | None = None,
    resets: Bool[Array, "*batch time"] | None = None,
    key: Array | None = None,
    noise: PyTree = None,
) -> tuple[PyTree, PyTree]:
    """Run like `layer.apply`, with the same arguments, and return the last carry and the carries after all steps.

    Returns:
        The last carry, and a tree like it whose leaves have a time axis where `xs` has it; zero where a step does not count.

    Raises:
        TypeError: `layer` is no Layer.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, states = jlstm.cell_states(layer, params, jax.numpy.ones((2, 5, 3)))
        >>> states.c.shape
        (2, 5, 4)
    """
    checks.instance("layer", layer, Layer, "LSTM(units)")
    results = layer._checked_run(params, xs, carry, lengths, mask, resets, key, noise, states=True)
    return results.carry, results.states
