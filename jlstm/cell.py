"""The Cell contract: one step of a recurrence, as pure functions of parameters and carry."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, Self, cast

import jax
import numpy as np
from jaxtyping import Array, Float

from jlstm.arguments import check_options

PyTree = Any
Params = PyTree
Noise = Mapping[str, Array]


class Noisy(NamedTuple):
    """Inputs, and what `Cell.each_step` drew for them."""

    xs: Float[Array, "time *batch features"]
    noise: PyTree


class Reduced(NamedTuple):
    """What a cell comes down to in one run: another cell with its arguments, and what remains to be done to all outputs at once.

    `begins_alike` tells whether the inner cell's own initial carry is the one that resets put back.
    """

    cell: "Cell"
    params: Params
    context: PyTree
    xs: Any  # (time, *batch, features), or Noisy
    finish: Callable[[Array], Array]
    begins_alike: bool = True


class Options:
    """Base of dataclasses of options: answers wrong ones in one sentence, and prints those that differ from the defaults.

    To JAX they are trees without leaves, so that `jax.jit` takes them as arguments, and compiles anew for other options.
    """

    def __init_subclass__(cls, **rest: Any) -> None:
        """Make instances of a class such trees."""
        super().__init_subclass__(**rest)
        jax.tree_util.register_static(cls)

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Check the options before the class does."""
        if args or options:  # copies and pickles come without
            check_options(cls, args, options)
        return super().__new__(cls)

    def _store(self, **values: Any) -> None:
        """Store options as a check returned them. Only for `__post_init__`, since options are frozen."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        given = [f.name for f in dataclasses.fields(cast(Any, self)) if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(f'{name}={_plain(getattr(self, name))}' for name in given)})"


def _plain(value: Any) -> str:
    return repr(value.name) if isinstance(value, np.dtype) else repr(value)


class Cell(Options, abc.ABC):
    """One step of a recurrence. Subclasses are frozen dataclasses of options; their methods are pure.

    A sequence is run as `begin`, `project` once over all time steps, then `step` once for each.
    Arrays of a sequence are time-major here: `xs` is (time, *batch, features), or, of a cell that says so, (time, *batch,
    *spatial_in, features).
    A cell may define `each_step`, for noise that is fresh at every step; then `project` gets `Noisy` inputs where there is some.
    A cell that has gates returns them from `gates`, for `jlstm.inspect`. A cell around another one tells by `reduced` when a run
    is one of the inner cell, so that a fast backend can serve it.
    """

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: a cell becomes a layer by `RNN(cell)`."""
        raise TypeError("a cell is not called: make it a layer, layer = RNN(cell), and call layer.apply(params, xs)")

    @property
    @abc.abstractmethod
    def features_out(self) -> int:
        """The size of the last axis of one step's output."""

    @property
    def spatial_in(self) -> tuple[int, ...]:
        """The sizes of an input's axes between those of the batch and the features: none."""
        return ()

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """The same of an output."""
        return ()

    @property
    def gives_h(self) -> bool:
        """Whether the output of a step is the h that is carried, if there is one."""
        return True

    @property
    def stochastic(self) -> bool:
        """Whether `begin` draws from a key."""
        return False

    def features_in(self, params: Params) -> int:
        """The size of the last axis of the inputs that parameters are for."""
        return params["kernel"].shape[-2]

    @abc.abstractmethod
    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        """Draw the parameters for inputs with `features` features."""

    @abc.abstractmethod
    def begin(
        self,
        params: Params,
        batch_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        noise: Noise | None = None,
    ) -> tuple[PyTree, PyTree]:
        """Return the initial carry and the context: all that stays constant over one sequence.

        The context (dropout masks, say) is drawn from `key` or taken from `noise`; with neither the cell is in inference.
        """

    def each_step(
        self,
        params: Params,
        shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        noise: PyTree | None = None,
    ) -> PyTree | None:
        """Return what is drawn anew at each step, with leaves (time, *batch, …) for `shape` (time, *batch), or None."""
        return None

    @abc.abstractmethod
    def project(self, params: Params, context: PyTree, xs: Any) -> PyTree:
        """Compute for all time steps at once everything that needs no carry."""

    @abc.abstractmethod
    def step(self, params: Params, context: PyTree, carry: PyTree, z: PyTree) -> tuple[PyTree, Array]:
        """Do what remains for one time step: return the new carry and the output."""

    def gates(self, params: Params, context: PyTree, carry: PyTree, z: PyTree) -> Any:
        """Return what the gates let through at one step, with the arguments of `step`: a NamedTuple of arrays (*batch, size).

        A gate lies between 0, shut, and 1, open; a candidate, which has a sign, is called `g`, and a forget gate, whose product
        over time is what c keeps, is called `f`. None, as here, means that the cell has no gates.
        """
        return None

    def reduced(self, params: Params, context: PyTree, xs: Any) -> Reduced | None:
        """Return the run of an inner cell that equals a run of this one, with the arguments of `project`; None if there is none.

        The carries of both must be the same at every step.
        """
        return None
