"""RNN: any cell as a layer; LSTM and GRU: the layers that most people want."""

import inspect
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jlstm import checks
from jlstm.arguments import answered
from jlstm.backends import BACKENDS
from jlstm.backends.scan import select
from jlstm.cell import Cell, Noisy, Params, PyTree
from jlstm.cells import GRUCell, LSTMCell
from jlstm.layers import carries
from jlstm.layers.layer import Layer
from jlstm.loop import Options, Results, Steps, recur


@dataclass(frozen=True, repr=False)
class RNN(Layer):
    """A cell, run over time.

    Args:
        cell: what one step does.
        reverse: run each sequence's own valid part from its end to its start; outputs stay in the inputs' order.
        time_major: inputs and outputs are (time, *batch, features) instead of (*batch, time, features).
        unroll: steps per iteration of the compiled loop, or "all" (also True): more code, less loop overhead, same results.
        remat: run the steps in chunks of √T ("sqrt", also True) or of as many as given, keep only the carries between them for
            the backward pass, and compute the rest anew there: O(√T) memory for what happens inside the recurrence. Inputs,
            outputs that are used, and sequences between layers still take O(T).
        backend: what runs the recurrence; "auto" takes the fastest that can.
        dtype: computes and returns in this; None in the inputs' dtype. Parameters are cast.
        param_dtype: of the parameters that `init` draws.

    Raises:
        ValueError: an unknown backend, or an `unroll` or `remat` that is neither a word nor at least 1.
        TypeError: a dtype that is not floating, a cell that is none.
    """

    cell: Cell
    _: KW_ONLY
    reverse: bool = False
    time_major: bool = False
    unroll: int | str = 1
    remat: int | str = False
    backend: str = "auto"
    dtype: Any = None
    param_dtype: Any = "float32"

    def __post_init__(self) -> None:
        checks.instance("cell", self.cell, Cell, "LSTMCell(units)")
        checks.flag("reverse", self.reverse)
        checks.flag("time_major", self.time_major)
        # True == 1, and equal layers must run the same program
        for name, word, off in (("unroll", "all", 1), ("remat", "sqrt", False)):
            value = getattr(self, name)
            if isinstance(value, bool):
                self._store(**{name: word if value else off})
            elif not isinstance(value, str) or value != word:
                self._store(**{name: checks.positive(name, value, repr(word))})
        checks.one_of("backend", self.backend, BACKENDS)
        self._store(param_dtype=checks.float_dtype("param_dtype", self.param_dtype))
        if self.dtype is not None:
            self._store(dtype=checks.float_dtype("dtype", self.dtype))

    if not TYPE_CHECKING:  # a type checker is to know what there is

        def __getattr__(self, name: str) -> Any:
            """Only what is missing comes here: an option of the cell is there."""
            hint = f": it is an option of its cell, layer.cell.{name}" if name in _CELL_OPTIONS else ""
            raise AttributeError(f"a layer has no attribute {name!r}{hint}", name=name, obj=self)

    @property
    def features_out(self) -> int:
        """The cell's."""
        return self.cell.features_out

    @property
    def spatial_in(self) -> tuple[int, ...]:
        """The cell's."""
        return self.cell.spatial_in

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """The cell's."""
        return self.cell.spatial_out

    @property
    def stochastic(self) -> bool:
        """The cell's."""
        return self.cell.stochastic

    def flipped(self) -> Self:
        """The same layer, run in the other direction."""
        return replace(self, reverse=not self.reverse)

    def draw(self, key: Array, features: int) -> Params:
        """Draw the cell's parameters in `param_dtype`."""
        checks.available("param_dtype", self.param_dtype)
        return self.cell.init(key, features, self.param_dtype)

    def begin(self, params: Params, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
        """The cell's own carry, in `dtype`, else the layer's, else the parameters'."""
        checks.instance("params", params, Mapping, "layer.init returns")
        dtype = checks.float_dtype("dtype", dtype or self.dtype or jnp.result_type(*jax.tree.leaves(params)))
        checks.available("dtype", dtype)
        return self.cell.begin(_cast(params, dtype), batch_shape, dtype)[0]

    def run(self, params: Params, steps: Steps, carry: PyTree | None, key: Array | None, noise: PyTree, states: bool) -> Results:
        """Cast everything to the compute dtype, begin, and loop over time."""
        dtype = self._compute_dtype(steps.xs.dtype)
        params, cast_carry, xs = _cast((params, carry, steps.xs), dtype)
        steps_of_batch = xs.shape[: -1 - len(self.spatial_in)]
        initial, context = self.cell.begin(params, steps_of_batch[1:], dtype, key=key, noise=noise)
        fresh = self.cell.each_step(params, steps_of_batch, dtype, key=key, noise=noise)
        options = Options(self.reverse, self.unroll, self.remat, self.backend)
        start = initial if carry is None else cast_carry
        steps = steps._replace(xs=xs if fresh is None else Noisy(xs, fresh))
        results = recur(self.cell, params, steps, start, initial, context, options, states)
        return results._replace(carry=carries.returned(results.carry, carry))

    def run_step(self, params: Params, carry: PyTree | None, x: Array, reset: Array | None) -> tuple[PyTree, Array]:
        """Project and run one step."""
        if self.reverse:
            raise ValueError("step runs forwards in time but this layer has reverse=True: use apply on the whole sequence")
        dtype = self._compute_dtype(x.dtype)
        params, cast_carry, x = _cast((params, carry, x), dtype)
        initial, context = self.cell.begin(params, x.shape[: -1 - len(self.spatial_in)], dtype)
        z = jax.tree.map(lambda leaf: leaf[0], self.cell.project(params, context, x[None]))
        start = initial if carry is None else cast_carry
        if reset is not None:
            start = select(reset, initial, start)
        last, y = self.cell.step(params, context, start, z)
        return carries.returned(last, carry), y

    def output_of(self, carry: PyTree) -> Array:
        """The h that is carried, where the cell's output is that."""
        if not hasattr(carry, "_fields"):
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


def _signature(cell: type[Cell]) -> inspect.Signature:
    """Of `LSTM` and `GRU`: the options of cell and loop with their defaults, for `help` and for completion in notebooks."""
    parameters = [*inspect.signature(cell).parameters.values(), *list(inspect.signature(RNN).parameters.values())[1:]]
    return inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters])


@answered("LSTM", _signature(LSTMCell))
def LSTM(units: int, **options: Any) -> RNN:
    """Return an LSTM layer, `RNN(LSTMCell(units, …), …)`: each option goes to the one of the two that has it.

    This is a function, not a class: its layers are `RNN`s, and `layer.cell.units` their units.

    Args:
        units: size of c, and of h without a projection. The size of the inputs goes to `layer.init(key, features=…)`.

    Options of the cell, explained by `help(jlstm.LSTMCell)`:
        activation="tanh", recurrent_activation="sigmoid", output_activation=None: functions of the candidate, the gates, and c.
        use_bias=True, forget_bias=1.0: whether there are biases, and that of the forget gate at first.
        dropout=0.0, recurrent_dropout=0.0, recurrent_dropout_on="h": shares of x and h zeroed when `apply` gets a key.
        projection=None, projection_bias=False, projection_clip=None: size of h where it is not `units`.
        peephole=False, coupled=None: gates that see c; one gate for both i and f.
        cell_clip=None, gate_clip=None: bounds of c and of the gates' sums.
        layer_norm=None, layer_norm_epsilon=None: layer normalisation, of one of four schemes.
        kernel_init="glorot_uniform", recurrent_init="orthogonal", bias_init="zeros": what draws the parameters.

    Options of the loop, explained by `help(jlstm.RNN)`:
        reverse=False, time_major=False: run from the end; (time, batch, features) instead of (batch, time, features).
        dtype=None, param_dtype="float32": what it computes in, None for the inputs' dtype; that of the parameters.
        backend="auto", unroll=1, remat=False: what runs it, see `jlstm.explain`; steps an iteration; memory for time.

    Raises:
        TypeError: neither has such an option.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4, dropout=0.2, reverse=True)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)), lengths=jax.numpy.array([5, 2]))
        >>> ys.shape, carry.c.shape
        ((2, 5, 4), (2, 4))
    """
    return _layer(LSTMCell, units, options)


@answered("GRU", _signature(GRUCell))
def GRU(units: int, **options: Any) -> RNN:
    """Return a GRU layer, `RNN(GRUCell(units, …), …)`: each option goes to the one of the two that has it.

    This is a function, not a class: its layers are `RNN`s, and `layer.cell.units` their units.

    Args:
        units: size of h. The size of the inputs goes to `layer.init(key, features=…)`.

    Options of the cell, explained by `help(jlstm.GRUCell)`:
        reset_after=True: whether the reset gate acts after the product with the recurrent kernel, as in PyTorch and Keras.
        activation="tanh", recurrent_activation="sigmoid": functions of the candidate and the gates.
        use_bias=True: whether there are biases.
        dropout=0.0, recurrent_dropout=0.0: shares of x and h zeroed when `apply` gets a key.
        kernel_init="glorot_uniform", recurrent_init="orthogonal", bias_init="zeros": what draws the parameters.

    Options of the loop, explained by `help(jlstm.RNN)`:
        reverse=False, time_major=False: run from the end; (time, batch, features) instead of (batch, time, features).
        dtype=None, param_dtype="float32": what it computes in, None for the inputs' dtype; that of the parameters.
        backend="auto", unroll=1, remat=False: what runs it, see `jlstm.explain`; steps an iteration; memory for time.

    Raises:
        TypeError: neither has such an option.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.GRU(4, reset_after=False)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)))
        >>> ys.shape, carry.h.shape
        ((2, 5, 4), (2, 4))
    """
    return _layer(GRUCell, units, options)


_CELL_OPTIONS = {field.name for cell in (LSTMCell, GRUCell) for field in fields(cast(Any, cell))}
_LOOP_OPTIONS = {field.name for field in fields(RNN)} - {"cell"}


def _layer(cell: type[Cell], units: int, options: dict[str, Any]) -> RNN:
    of_loop = {option: options.pop(option) for option in _LOOP_OPTIONS & options.keys()}
    return RNN(cast(Any, cell)(units, **options), **of_loop)


cast(Any, LSTM).__signature__, cast(Any, GRU).__signature__ = _signature(LSTMCell), _signature(GRUCell)
