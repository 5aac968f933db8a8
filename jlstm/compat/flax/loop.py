"""What the `RNN`s for linen and for nnx share: they run a Flax cell by jlstm, or Flax's own loop with the masks of jlstm."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx
from flax.linen.dtypes import canonicalize_dtype
from flax.linen.recurrent import flip_sequences
from jaxtyping import Array, Int

from jlstm import backends
from jlstm._src import checks
from jlstm._src.arrays import select
from jlstm._src.loop import lengths_to_mask
from jlstm.activations import ACTIVATIONS
from jlstm.cell import PyTree
from jlstm.cells import HiddenCarry, LSTMCarry
from jlstm.convert import flax as convert
from jlstm.layers import GRU, LSTM, RNN

# Only these classes, not their subclasses, which may compute something else.
KINDS: dict[type, str] = {
    **dict.fromkeys((linen.LSTMCell, linen.OptimizedLSTMCell, nnx.LSTMCell, nnx.OptimizedLSTMCell), "LSTM"),
    **dict.fromkeys((linen.GRUCell, nnx.GRUCell), "GRU"),
}
LAYERS: dict[str, Callable[..., RNN]] = {"LSTM": LSTM, "GRU": GRU}


class Options(NamedTuple):
    """The options of a call of `RNN`, and the number of batch axes of its inputs."""

    return_carry: bool
    time_major: bool
    reverse: bool
    keep_order: bool
    batch_ndim: int

    @classmethod
    def of(cls, module: Any, inputs: Array, **overrides: bool | None) -> "Options":
        """Return the options of a Flax `RNN`. Those of a call that are not None override them."""
        options = {name: getattr(module, name) if value is None else value for name, value in overrides.items()}
        return cls(**options, batch_ndim=inputs.ndim - 1 - module.cell.num_feature_axes)

    @property
    def time_axis(self) -> int:
        """The axis of time in the inputs."""
        return 0 if self.time_major else self.batch_ndim

    def step_shape(self, inputs: Array) -> tuple[int, ...]:
        """Return the shape of the inputs of one time step."""
        return (*inputs.shape[: self.time_axis], *inputs.shape[self.time_axis + 1 :])

    def arguments(self) -> dict[str, bool]:
        """Return the options as keyword arguments of Flax's `RNN.__call__`."""
        return {name: value for name, value in self._asdict().items() if name != "batch_ndim"}


def run(
    module: Any,
    inputs: Array,
    carry: PyTree,
    seq_lengths: Int[Array, "*batch"] | None,
    options: Options,
    *,
    obstacle: str,
    arrays: Callable[[], Mapping[str, Array]],
    flax_loop: Callable[..., Any],
) -> Any:
    """Compute the results of `RNN.__call__`.

    Args:
        module: the `RNN`.
        inputs: its inputs.
        carry: the initial carry, in Flax's order.
        seq_lengths: number of steps of each sequence that count.
        options: the other options of the call.
        obstacle: why jlstm cannot run the module, or "".
        arrays: returns the parameters of the cell, with names such as "hf.kernel".
        flax_loop: the `__call__` of Flax's `RNN`.
    """
    cell: Any = module.cell
    kind = KINDS.get(type(cell), "")
    if not kind:
        obstacle = obstacle or "it is not an LSTMCell, OptimizedLSTMCell or GRUCell"
    elif not obstacle:
        params = arrays()
        # The dtype of Flax's matrix products.
        dtype = jnp.dtype(canonicalize_dtype(inputs, *params.values(), dtype=cell.dtype))
        obstacle = _obstacle(kind, cell, params, dtype, inputs, carry)
    if obstacle:
        name = type(cell).__name__
        backends.record(backends.Choice(name, "flax", name, {"jlstm": obstacle}))
        return _run_by_flax(inputs, carry, seq_lengths, options, flax_loop)

    units = jax.tree.leaves(carry)[0].shape[-1]
    cell_options = {"recurrent_activation": _named(cell.gate_fn), "activation": _named(cell.activation_fn)}
    loop_options = {"reverse": options.reverse, "time_major": options.time_major, "unroll": module.unroll, "dtype": dtype}
    layer = LAYERS[kind](units, **cell_options, **loop_options)
    first_carry = LSTMCarry(carry[1], carry[0]) if kind == "LSTM" else HiddenCarry(carry)
    last_carry, ys = layer.apply(convert.join(kind, params), inputs.astype(dtype), first_carry, lengths=seq_lengths)
    if options.reverse and not options.keep_order:  # traced lengths may be out of range, and jlstm clips them
        lengths = None if seq_lengths is None else jnp.clip(seq_lengths, 0, inputs.shape[options.time_axis])
        ys = flip_sequences(ys, lengths, num_batch_dims=options.batch_ndim, time_major=options.time_major)
    if not options.return_carry:
        return ys
    return ((last_carry.c, last_carry.h) if kind == "LSTM" else last_carry.h), ys


def _obstacle(kind: str, cell: Any, params: Mapping[str, Array], dtype: Any, inputs: Array, carry: PyTree) -> str:
    """Return why jlstm cannot run a call, or ""."""
    if any(isinstance(function, linen.Module) for function in (cell.gate_fn, cell.activation_fn)):
        return "an activation is a Flax module"
    kernel = next((array for name, array in params.items() if name.startswith(("dense_h.", "h"))), None)
    fused = "dense_h.kernel" in params
    units = 0 if kernel is None else kernel.shape[0]
    if {name: jnp.shape(array) for name, array in params.items()} != convert.shapes(kind, inputs.shape[-1], units, fused=fused):
        return "its parameters have other names or shapes than those of Flax's cell for these inputs"
    # With states in float32 and products in bfloat16, Flax rounds the products alone. jlstm computes in one dtype.
    other_dtypes = {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(carry)} - {str(dtype)}
    return f"it computes in {dtype} and its carry is {min(other_dtypes)}" if other_dtypes else ""


def _named(function: Callable[[Array], Array]) -> Any:
    """Return the name of an activation, by which the kernels know it, or the function if jlstm has no name for it."""
    return next((name for name, activation in ACTIVATIONS.items() if activation is function), function)


def _run_by_flax(inputs: Array, carry: PyTree, seq_lengths: Any, options: Options, flax_loop: Callable[..., Any]) -> Any:
    """Run Flax's own loop, and keep padding out of results and gradients as jlstm does."""
    if seq_lengths is None:
        return flax_loop(inputs, initial_carry=carry, **options.arguments())
    if options.return_carry and options.batch_ndim > 1:
        raise ValueError(
            "seq_lengths with return_carry=True needs at most one batch axis if Flax's own loop runs the cell, got "
            f"{options.batch_ndim}: reshape them into one"
        )
    time, batch_shape = inputs.shape[options.time_axis], options.step_shape(inputs)[: options.batch_ndim]
    lengths = checks.lengths(seq_lengths, batch_shape, time)
    mask = jnp.moveaxis(lengths_to_mask(lengths, time), -1, options.time_axis)

    def without_padding(tree: PyTree) -> PyTree:
        return select(mask, tree, jax.tree.map(jnp.zeros_like, tree))

    # Padding may hold NaN, which would reach the gradients of the parameters if only the outputs were masked.
    results = flax_loop(without_padding(inputs), initial_carry=carry, seq_lengths=lengths, **options.arguments())
    if not options.return_carry:
        return without_padding(results)
    last_carry, ys = results
    return select(lengths > 0, last_carry, carry), without_padding(ys)  # reversed outputs also have their padding at the end
