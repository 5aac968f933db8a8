"""The layer `RNN`, which runs any cell over time."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jlstm._src import checks
from jlstm._src.arrays import select
from jlstm._src.loop import Results, Steps, keep_carry, recur
from jlstm.backends import BACKENDS
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.cell import Cell, MaskedInputs, Params, PyTree
from jlstm.cells import GRUCell, LSTMCell
from jlstm.layers import carries
from jlstm.layers.layer import Layer


@dataclass(frozen=True, repr=False)
class RNN(Layer):
    """Run a cell over time.

    Args:
        cell: the cell, which defines one step.
        reverse: run from the last step that counts to the first. The outputs stay in the order of the inputs.
        time_major: inputs and outputs are (time, *batch, features) instead of (*batch, time, features).
        unroll: steps per iteration of the compiled loop, or "all" (also True). More steps mean more code and less loop overhead;
            the results are the same. None takes 1 on CPUs and 8 on other devices. The native kernels do not need it.
        remat: rematerialize in chunks of this many steps, or of √T steps with "sqrt" (also True). Only the carries between
            chunks are kept for the backward pass, which computes the rest again. With "sqrt" the recurrence takes O(√T) memory.
            Inputs, outputs that are used, and sequences between layers still take O(T).
        backend: what runs the recurrence. "auto" takes the fastest backend that can run it; see `jlstm.explain`.
        dtype: dtype in which the layer computes and returns; None takes the dtype of the inputs. Parameters are cast to it.
        param_dtype: dtype of the parameters that `init` draws.

    Raises:
        ValueError: `backend` is unknown, or `unroll` or `remat` is neither its word nor a whole number of at least 1.
        TypeError: a dtype is not floating, or `cell` is not a Cell.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(jlstm.LSTMCell(4), reverse=True)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)))
        >>> bool((carry.h == ys[:, 0]).all())  # the step that it runs last is the first one
        True
    """

    cell: Cell
    _: KW_ONLY
    reverse: bool = False
    time_major: bool = False
    unroll: int | str | None = None
    remat: int | str = False
    backend: str = "auto"
    dtype: Any = None
    param_dtype: Any = "float32"

    def __post_init__(self) -> None:
        checks.instance("cell", self.cell, Cell, "LSTMCell(units)")
        checks.flag("reverse", self.reverse)
        checks.flag("time_major", self.time_major)
        # True == 1, so that layers with either are equal, and equal layers must run the same program: store the word instead
        for name, word, off in (("unroll", "all", 1), ("remat", "sqrt", False)):
            value = getattr(self, name)
            if isinstance(value, bool):
                self._store(**{name: word if value else off})
            elif not (isinstance(value, str) and value == word) and not (value is None and name == "unroll"):
                self._store(**{name: checks.positive(name, value, repr(word))})
        checks.one_of("backend", self.backend, BACKENDS)
        self._store(param_dtype=checks.float_dtype("param_dtype", self.param_dtype))
        if self.dtype is not None:
            self._store(dtype=checks.float_dtype("dtype", self.dtype))

    if not TYPE_CHECKING:  # with a __getattr__ a type checker would accept any attribute

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, which points to the cell if `name` is an option of it. Python calls it for missing names."""
            hint = f": it is an option of its cell, layer.cell.{name}" if name in _CELL_OPTIONS else ""
            raise AttributeError(f"a layer has no attribute {name!r}{hint}", name=name, obj=self)

    @property
    def features_out(self) -> int:
        return self.cell.features_out

    @property
    def spatial_in(self) -> tuple[int, ...]:
        return self.cell.spatial_in

    @property
    def spatial_out(self) -> tuple[int, ...]:
        return self.cell.spatial_out

    @property
    def stochastic(self) -> bool:
        return self.cell.stochastic

    def flipped(self) -> Self:
        return replace(self, reverse=not self.reverse)

    def features_in(self, params: Params) -> int:
        return self.cell.features_in(params)

    def draw(self, key: Array, features: int) -> Params:
        """Return new parameters of the cell in `param_dtype`.

        Raises:
            ValueError: `param_dtype` is float64 while JAX has it off.
        """
        checks.available("param_dtype", self.param_dtype)
        return self.cell.init(key, features, self.param_dtype)

    def begin(self, params: Params, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
        """Return the initial carry of the cell: in `dtype`, else in the layer's `dtype`, else in the dtype of the parameters.

        Raises:
            TypeError: `params` is not a dict, or the dtype is not floating.
            ValueError: the dtype is float64 while JAX has it off.
        """
        checks.instance("params", params, Mapping, "layer.init returns")
        dtype = checks.float_dtype("dtype", dtype or self.dtype or jnp.result_type(*jax.tree.leaves(params)))
        checks.available("dtype", dtype)
        return self.cell.begin(_cast(params, dtype), batch_shape, dtype)[0]

    def run(
        self, params: Params, steps: Steps, carry: PyTree | None, key: Array | None, dropout_masks: PyTree, states: bool
    ) -> Results:
        """Run the cell over all steps of the sequence; see `Layer.run` for the arguments.

        The last carry has the dtype of `carry`, if that is wider than the compute dtype.

        Raises:
            ValueError: the compute dtype is float64 while JAX has it off, or a dropout mask does not fit.
        """
        keep = keep_carry if states else None
        options = RunOptions(self.reverse, self.unroll, self.remat, self.backend, keep)
        results = recur(self.cell, self.run_inputs(params, steps, carry, key, dropout_masks), options)
        return results._replace(carry=carries.returned(results.carry, carry))

    def run_inputs(
        self, params: Params, steps: Steps, carry: PyTree | None, key: Array | None = None, dropout_masks: PyTree = None
    ) -> RunInputs:
        """Return what a backend gets: all arrays in the compute dtype, the initial carry, and the dropout masks.

        The arguments are those of `Layer.run`. The cell draws the masks from `key`, or takes them from `dropout_masks`.

        Raises:
            ValueError: as for `run`.
        """
        dtype = self._compute_dtype(steps.xs.dtype)
        params, cast_carry, xs = _cast((params, carry, steps.xs), dtype)
        time_and_batch = xs.shape[: -1 - len(self.spatial_in)]
        initial, context = self.cell.begin(params, time_and_batch[1:], dtype, key=key, dropout_masks=dropout_masks)
        step_masks = self.cell.step_masks(params, time_and_batch, dtype, key=key, dropout_masks=dropout_masks)
        xs = xs if step_masks is None else MaskedInputs(xs, step_masks)
        return RunInputs(params, context, initial, initial if carry is None else cast_carry, xs, steps.mask, steps.resets)

    def run_step(self, params: Params, carry: PyTree | None, x: Array, reset: Array | None) -> tuple[PyTree, Array]:
        """Run one step of the cell.

        Raises:
            ValueError: the layer has `reverse`, or the compute dtype is float64 while JAX has it off.
        """
        if self.reverse:
            raise ValueError("step runs forwards in time but this layer has reverse=True: use apply on the whole sequence")
        dtype = self._compute_dtype(x.dtype)
        params, cast_carry, x = _cast((params, carry, x), dtype)
        initial, context = self.cell.begin(params, x.shape[: -1 - len(self.spatial_in)], dtype)
        z = jax.tree.map(lambda leaf: leaf[0], self.cell.project(params, context, x[None]))  # as a sequence of one step
        start = initial if carry is None else cast_carry
        if reset is not None:
            start = select(reset, initial, start)
        new_carry, y = self.cell.step(params, context, start, z)
        return carries.returned(new_carry, carry), y

    def output_of(self, carry: PyTree) -> Array:
        """Return the h of the carry, if that is what the cell outputs.

        Raises:
            ValueError: the output of the cell is not the h of its carry.
            TypeError: the carry is that of another layer.
        """
        if not hasattr(carry, "_fields"):
            # `last_output` turns a TypeError into its message for the carry of another layer.
            raise TypeError
        if not self.cell.gives_h or not hasattr(carry, "h"):
            cell = checks.brief(self.cell)
            raise ValueError(f"the output of {cell} is not an h that it carries: take the last step that counts from ys")
        if carry.h.shape[-1] != self.features_out:
            raise TypeError
        return carry.h

    def _compute_dtype(self, of_inputs: Any) -> np.dtype:
        dtype = jnp.dtype(self.dtype or of_inputs)
        checks.available("dtype", dtype)
        return dtype


def _cast(tree: PyTree, dtype: np.dtype) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


_CELL_OPTIONS = {field.name for cell in (LSTMCell, GRUCell) for field in fields(cast(Any, cell))}
