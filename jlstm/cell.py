"""The Cell contract: pure functions of parameters and carry that define one step of a recurrence."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, Self, cast

import jax
import numpy as np
from jaxtyping import Array, Float

from jlstm._src.arguments import check_options

PyTree = Any
Params = PyTree
DropoutMasks = Mapping[str, Array]


class MaskedInputs(NamedTuple):
    """Inputs, together with the dropout masks that `Cell.step_masks` drew for each step."""

    xs: Float[Array, "time *batch features"]
    dropout_masks: PyTree


class Reduced(NamedTuple):
    """A run of an inner cell that equals a run of the outer cell.

    Attributes:
        cell: the inner cell.
        params: the parameters of the inner cell.
        context: the context of the inner cell.
        xs: the inputs of the inner cell.
        finish: maps the outputs of the inner cell, for all steps at once, to those of the outer cell.
        same_initial_carry: whether both cells have the same initial carry, so that `resets` mean the same for both.
    """

    cell: "Cell"
    params: Params
    context: PyTree
    xs: Any  # (time, *batch, features), or MaskedInputs
    finish: Callable[[Array], Array]
    same_initial_carry: bool = True


class Options:
    """Base class of dataclasses of options: checks the names of options, and prints those that differ from their defaults.

    JAX treats an instance as a static pytree, without leaves. `jax.jit` takes it as an argument and compiles again for other
    options.
    """

    def __init_subclass__(cls, **class_options: Any) -> None:
        """Register each subclass with JAX as a static pytree."""
        super().__init_subclass__(**class_options)
        jax.tree_util.register_static(cls)

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Check the names of the options, so that the error message can suggest the right one."""
        if args or options:  # copy and pickle call this without arguments
            check_options(cls, args, options)
        return super().__new__(cls)

    def _store(self, **values: Any) -> None:
        """Store checked values of options. Only for `__post_init__`: instances are frozen, so plain assignment fails."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        changed = [f.name for f in dataclasses.fields(cast(Any, self)) if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(f'{name}={_plain(getattr(self, name))}' for name in changed)})"


def _plain(value: Any) -> str:
    return repr(value.name) if isinstance(value, np.dtype) else repr(value)


class Cell(Options, abc.ABC):
    """One step of a recurrence. Subclasses are frozen dataclasses of options; their methods are pure.

    A layer runs a sequence in three parts: `begin` once, `project` once for all time steps, then `step` for each of them.
    Arrays of a sequence are time-major here: `xs` is (time, *batch, features), or (time, *batch, *spatial_in, features) for a
    cell with spatial axes.

    A cell may also define:
        `step_masks`: dropout masks that are drawn again at each step. If it returns any, `project` gets `MaskedInputs`.
        `gates`: the values of its gates at one step, for `jlstm.introspect`.
        `reduced`: an inner cell whose run gives the same results, so that a fast backend can run that cell instead.
    """

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError: a cell is not called; `RNN(cell)` makes it a layer."""
        raise TypeError("a cell is not called: make it a layer, layer = RNN(cell), and call layer.apply(params, xs)")

    @property
    @abc.abstractmethod
    def features_out(self) -> int:
        """The size of the last axis of the output of a step."""

    @property
    def spatial_in(self) -> tuple[int, ...]:
        """The sizes of the spatial axes of the inputs, which stand between batch and features; () if there are none."""
        return ()

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """The sizes of the spatial axes of the outputs."""
        return ()

    @property
    def gives_h(self) -> bool:
        """Whether the output of a step is the h of the new carry. It has no meaning for a carry without h."""
        return True

    @property
    def stochastic(self) -> bool:
        """Whether a random key changes the results of the cell."""
        return False

    def features_in(self, params: Params) -> int:
        """Return the size of the last axis of the inputs that `params` are for."""
        # (features, columns), behind the axes of the window if the cell convolves.
        return params["kernel"].shape[-2]

    @abc.abstractmethod
    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        """Draw the parameters, for inputs whose last axis has the size `features`.

        Args:
            key: random key.
            features: size of the last axis of the inputs.
            dtype: dtype of the parameters.

        Returns:
            A dict of arrays.
        """

    @abc.abstractmethod
    def begin(
        self,
        params: Params,
        batch_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        dropout_masks: DropoutMasks | None = None,
    ) -> tuple[PyTree, PyTree]:
        """Return the initial carry and the context. The context holds all values that are constant over a sequence.

        Args:
            params: parameters as `init` returns them.
            batch_shape: sizes of the batch axes.
            dtype: dtype of carry and context.
            key: random key from which the context, for example dropout masks, is drawn.
            dropout_masks: the masks themselves, in place of a key. With neither the cell is in inference mode.

        Returns:
            The initial carry and the context.
        """

    def step_masks(
        self,
        params: Params,
        shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        key: Array | None = None,
        dropout_masks: PyTree | None = None,
    ) -> PyTree | None:
        """Return the dropout masks that are drawn again at each step, or None if there is none.

        Its leaves have the shape (time, *batch, …), where `shape` is (time, *batch). Other arguments are those of `begin`.
        """
        return None

    @abc.abstractmethod
    def project(self, params: Params, context: PyTree, xs: Any) -> PyTree:
        """Compute for all time steps at once the part of a step that does not depend on the carry.

        Args:
            params: parameters as `init` returns them.
            context: the context that `begin` returned.
            xs: inputs (time, *batch, features), or `MaskedInputs`.

        Returns:
            A tree whose leaves have time as their first axis. `step` gets one step of it as `z`.
        """

    @abc.abstractmethod
    def step(self, params: Params, context: PyTree, carry: PyTree, z: PyTree) -> tuple[PyTree, Array]:
        """Run one time step.

        Args:
            params: parameters as `init` returns them.
            context: the context that `begin` returned.
            carry: the carry before the step.
            z: the entry of the result of `project` for this step, without a time axis.

        Returns:
            The new carry, and the output (*batch, features_out).
        """

    def gates(self, params: Params, context: PyTree, carry: PyTree, z: PyTree) -> Any:
        """Return the gates of one step, after their activation functions; None, the default, means that the cell has no gates.

        The arguments are those of `step`. The result is a NamedTuple of arrays (*batch, size). A gate is between 0 (closed) and
        1 (open). Two names have a meaning: `g` is a candidate, which may be negative, and `f` is a forget gate, whose product
        over time is the share of c that remains.
        """
        return None

    def reduced(self, params: Params, context: PyTree, xs: Any) -> Reduced | None:
        """Return a run of an inner cell that equals a run of this cell, or None if there is none.

        The arguments are those of `project`. Both cells must have the same carry at every step.
        """
        return None
