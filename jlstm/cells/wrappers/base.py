"""A cell around a cell: whatever it does not change is the inner cell's."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
from jaxtyping import Array

from jlstm import checks
from jlstm.cell import Cell, Noisy, Params, PyTree, Reduced


class Both(NamedTuple):
    """What belongs to the wrapper, and what to the cell in it."""

    own: Any
    inner: Any


@dataclass(frozen=True, repr=False)
class Wrapper(Cell):
    """Base of the wrappers.

    A wrapper says what happens around the inner cell: `inner_params` are the parameters that it runs with, `enter` changes what
    goes in and `leave` what comes out. These hold for one step and for all steps at once, so that `reduced` can take them out of
    the loop. A wrapper that changes what is carried overrides `step`, and `reduced` where it only does so at times.

    Parameters and carry are the inner cell's unless a wrapper says otherwise; context, noise of each step and projected inputs
    are `Both`. `noise` may hold what the wrapper says, and `cell`, the inner cell's; what is missing there is as in inference.
    """

    cell: Cell
    noises: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        checks.instance("cell", self.cell, Cell, "LSTMCell(units)")

    @property
    def features_out(self) -> int:
        """The inner cell's."""
        return self.cell.features_out

    @property
    def spatial_in(self) -> tuple[int, ...]:
        """The inner cell's."""
        return self.cell.spatial_in

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """The inner cell's."""
        return self.cell.spatial_out

    @property
    def gives_h(self) -> bool:
        """Whether the output is the h that is carried, where there is one."""
        return self.cell.gives_h

    @property
    def stochastic(self) -> bool:
        """Whether the wrapper or the inner cell draws."""
        return self.cell.stochastic

    def features_in(self, params: Params) -> int:
        """The inner cell's."""
        return self.cell.features_in(self.inner_params(params, None))

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        """The inner cell's parameters."""
        return self.cell.init(key, features, dtype)

    def begin(
        self,
        params: Params,
        batch_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        noise: PyTree | None = None,
    ) -> tuple[PyTree, Both]:
        """Return the inner cell's carry, and the contexts."""
        inner = self.inner_params(params, None)
        carry, context = self.cell.begin(inner, batch_shape, dtype, key=keys(key)[1], noise=_inner_noise(self, noise))
        return carry, Both(None, context)

    def each_step(
        self,
        params: Params,
        shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        noise: PyTree | None = None,
    ) -> Both | None:
        """Return what the wrapper and the inner cell draw anew at each step."""
        inner_params, inner_noise = self.inner_params(params, None), _inner_noise(self, noise)
        inner = self.cell.each_step(inner_params, shape, dtype, key=keys(key)[1], noise=inner_noise)
        own = self.own_of_each_step(params, shape, dtype, keys(key)[0], noise)
        return None if inner is None and own is None else Both(own, inner)

    def own_of_each_step(self, params: Params, shape: tuple[int, ...], dtype: Any, key: Array | None, noise: PyTree) -> PyTree:
        """What only the wrapper draws anew at each step, or None."""
        return None

    def inner_params(self, params: Params, drawn: PyTree) -> Params:
        """Return the parameters that the inner cell runs with; `drawn` is what the wrapper keeps as context, None before that."""
        return params

    def enter(self, params: Params, drawn: PyTree, xs: Array, fresh: PyTree) -> tuple[Array, PyTree]:
        """Return the inputs of the inner cell, and what `leave` needs, for all steps at once; `fresh` is each step's noise."""
        return xs, fresh

    def leave(self, drawn: PyTree, beside: PyTree, y: Array) -> Array:
        """Return the output, of one step or of all of them, from the inner cell's and from what `enter` left beside."""
        return y

    def project(self, params: Params, context: Both, xs: Any) -> Both:
        """What enters, projected by the inner cell."""
        inner_xs, beside = self._entered(params, context, xs)
        return Both(beside, self.cell.project(self.inner_params(params, context.own), context.inner, inner_xs))

    def step(self, params: Params, context: Both, carry: PyTree, z: Both) -> tuple[PyTree, Array]:
        """The inner cell's, and what leaves."""
        after, y = self.cell.step(self.inner_params(params, context.own), context.inner, carry, z.inner)
        return after, self.leave(context.own, z.own, y)

    def gates(self, params: Params, context: Both, carry: PyTree, z: Both) -> Any:
        """The inner cell's."""
        return self.cell.gates(self.inner_params(params, context.own), context.inner, carry, z.inner)

    def reduced(self, params: Params, context: Both, xs: Any) -> Reduced | None:
        """The inner cell between `enter` and `leave`."""
        inner_xs, beside = self._entered(params, context, xs)
        finish = partial(self.leave, context.own, beside)
        return Reduced(self.cell, self.inner_params(params, context.own), context.inner, inner_xs, finish)

    def _entered(self, params: Params, context: Both, xs: Any) -> tuple[Any, PyTree]:
        plain, fresh = xs if isinstance(xs, Noisy) else (xs, Both(None, None))
        entered, beside = self.enter(params, context.own, plain, fresh.own)
        return (entered if fresh.inner is None else Noisy(entered, fresh.inner)), beside


def keys(key: Array | None) -> tuple[Array | None, Array | None]:
    """The wrapper's own key, and the inner cell's."""
    return (None, None) if key is None else tuple(jax.random.split(key))


def _inner_noise(cell: Wrapper, noise: PyTree | None) -> PyTree | None:
    if noise is None:
        return None
    if not isinstance(noise, dict):
        raise TypeError(f"noise of {type(cell).__name__} must be a dict, got {type(noise).__name__}")
    for name in noise:
        checks.one_of(f"a key of the noise of {type(cell).__name__}", name, (*cell.noises, "cell"))
    return noise.get("cell")
