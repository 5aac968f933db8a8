"""The class `RNN` of `jlstm.compat.flax.linen`."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from flax.core.meta import unbox
from jaxtyping import Array, Int

from jlstm.cell import PyTree
from jlstm.compat.flax import loop
from jlstm.compat.flax.loop import Options
from jlstm.convert import flax as convert

# How Flax lifts the variables of a cell into its loop. Other values may mean, for example, other parameters at each step.
_LIFTING = [field for field in fields(linen.RNN) if field.name.startswith(("variable_", "split_rngs"))]


class RNN(linen.RNN):
    """Flax's `RNN`, run by jlstm: the same options, arguments, parameters and results, but for padding.

    `LSTMCell`, `OptimizedLSTMCell` and `GRUCell` are run by the backends of jlstm, any activation included. Any other cell is run
    by Flax's own loop, as are other values of `variable_axes`, `variable_broadcast`, `variable_carry` and `split_rngs`, and a
    cell whose carry has another dtype than its matrix products. `jlstm.compat.flax.explain` says which loop runs, and why.

    With `seq_lengths`, all cells have the masks of jlstm: outputs of padding are zero, its inputs, even NaN, reach neither
    results nor gradients, and the last carry of a sequence of length 0 is the initial carry.

    Args:
        cell, time_major, return_carry, reverse, keep_order, unroll: see `flax.linen.RNN`.
        variable_axes, variable_broadcast, variable_carry, split_rngs: see `flax.linen.RNN`.

    Differs from: Flax's `RNN` runs over padding, so that its outputs there go on after the last step that counts, and so that
    the last carry of a sequence of length 0 is that of the last step (https://github.com/google/flax/pull/2604).

    Examples:
        >>> import jax
        >>> from jlstm.compat.flax import linen as nn
        >>> model, xs = nn.RNN(nn.OptimizedLSTMCell(4), return_carry=True), jax.numpy.ones((2, 5, 3))
        >>> variables = model.init(jax.random.key(0), xs)
        >>> (c, h), ys = model.apply(variables, xs, seq_lengths=jax.numpy.array([5, 2]))
        >>> c.shape, ys.shape, bool(ys[1, 2:].any())
        ((2, 4), (2, 5, 4), False)
    """

    def __call__(
        self,
        inputs: Array,
        *,
        initial_carry: PyTree | None = None,
        init_key: Array | None = None,
        seq_lengths: Int[Array, "*batch"] | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Return the outputs, or with `return_carry` the last carry and the outputs; see `flax.linen.RNN.__call__`.

        Raises:
            ValueError: concrete `seq_lengths` are out of range; or there are several batch axes, `seq_lengths` and `return_carry`
                where Flax's own loop runs.
        """
        options = Options.of(
            self, inputs, return_carry=return_carry, time_major=time_major, reverse=reverse, keep_order=keep_order
        )
        carry, step_shape = initial_carry, options.step_shape(inputs)
        if carry is None:
            carry = self.cell.initialize_carry(jax.random.key(0) if init_key is None else init_key, step_shape)

        def arrays() -> Mapping[str, Array]:
            # Without parameters, one step draws them in `init`, as Flax's loop does, and raises Flax's error in `apply`.
            if "params" not in self.cell.variables:
                self.cell(carry, jnp.zeros(step_shape, inputs.dtype))
            return dict(convert.flat(unbox(self.cell.variables["params"])))

        changed = [field.name for field in _LIFTING if getattr(self, field.name) != field.default]
        obstacle = f"RNN has {changed[0]}={getattr(self, changed[0])}" if changed else ""
        return loop.run(self, inputs, carry, seq_lengths, options, obstacle=obstacle, arrays=arrays, flax_loop=super().__call__)
