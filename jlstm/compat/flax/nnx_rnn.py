"""The class `RNN` of `jlstm.compat.flax.nnx`."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Int

from jlstm.cell import PyTree
from jlstm.compat.flax import loop
from jlstm.compat.flax.loop import Options

_PLAIN = {"precision": None, "dot_general": jax.lax.dot_general, "promote_dtype": promote_dtype, "preferred_element_type": None}


class RNN(nnx.RNN):
    """Flax's `RNN`, run by jlstm: the same options, arguments, parameters and results, but for padding.

    `LSTMCell`, `OptimizedLSTMCell` and `GRUCell` are run by the backends of jlstm, any activation included. Any other cell is run
    by Flax's own loop, as are other values of `state_axes` and `broadcast_rngs`, a cell whose linear layers were replaced or
    changed, and a cell whose carry has another dtype than its matrix products. `jlstm.compat.flax.explain` says which loop runs,
    and why.

    With `seq_lengths`, all cells have the masks of jlstm: outputs of padding are zero, its inputs, even NaN, reach neither
    results nor gradients, and the last carry of a sequence of length 0 is the initial carry.

    Args:
        cell, time_major, return_carry, reverse, keep_order, unroll, state_axes, broadcast_rngs, rngs: see `flax.nnx.RNN`.

    Differs from: Flax's `RNN` runs over padding, so that its outputs there go on after the last step that counts, and so that
    the last carry of a sequence of length 0 is that of the last step (https://github.com/google/flax/pull/2604).

    Examples:
        >>> import jax
        >>> from jlstm.compat.flax import nnx
        >>> model = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0)), return_carry=True)
        >>> (c, h), ys = model(jax.numpy.ones((2, 5, 3)), seq_lengths=jax.numpy.array([5, 2]))
        >>> c.shape, ys.shape, bool(ys[1, 2:].any())
        ((2, 4), (2, 5, 4), False)
    """

    def __call__(
        self,
        inputs: Array,
        *,
        initial_carry: PyTree | None = None,
        seq_lengths: Int[Array, "*batch"] | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> Any:
        """Return the outputs, or with `return_carry` the last carry and the outputs; see `flax.nnx.RNN.__call__`.

        Raises:
            ValueError: concrete `seq_lengths` are out of range; or there are several batch axes, `seq_lengths` and `return_carry`
                where Flax's own loop runs.
        """
        options = Options.of(
            self, inputs, return_carry=return_carry, time_major=time_major, reverse=reverse, keep_order=keep_order
        )
        stream = self.rngs if rngs is None else rngs
        if isinstance(stream, nnx.Rngs):
            stream = stream.carry.fork()
        carry = initial_carry
        if carry is None:
            carry = self.cell.initialize_carry(options.step_shape(inputs), stream)
        return loop.run(
            self,
            inputs,
            carry,
            seq_lengths,
            options,
            obstacle=self._obstacle(),
            arrays=lambda: _arrays(self.cell),
            flax_loop=super().__call__,
        )

    def _obstacle(self) -> str:
        """Return which option or change of this module jlstm cannot run, or ""."""
        cell: Any = self.cell
        if self.state_axes != nnx.StateAxes([(..., nnx.Carry)]) or self.broadcast_rngs is not None:
            return "RNN has other state_axes or broadcast_rngs than by default"
        for name, linear in vars(cell).items():
            if type(cell) in loop.KINDS and isinstance(linear, nnx.Module):
                plain = _PLAIN | {"dtype": cell.dtype}
                if type(linear) is not nnx.Linear or any(getattr(linear, key) != value for key, value in plain.items()):
                    return f"its layer {name} was replaced or changed"
        return ""


def _arrays(cell: Any) -> Mapping[str, Array]:
    """Return the parameters of a cell, by names such as "hf.kernel"."""
    variables = {
        f"{name.rstrip('_')}.{kind}": getattr(linear, kind)  # "if" is a keyword of Python, so nnx calls this layer "if_"
        for name, linear in vars(cell).items()
        if isinstance(linear, nnx.Linear)
        for kind in ("kernel", "bias")
    }
    return {name: variable[...] for name, variable in variables.items() if variable is not None}
