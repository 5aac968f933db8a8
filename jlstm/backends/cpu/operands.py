"""The operands and results of the primitives and kernels, as flat NamedTuples of arrays.

A cell has four columns for each unit. The LSTM's are i, f, g and o. Those of the GRU are z, r, a and b, with which its candidate
is tanh(a + r b): a depends on x and b on h, so that kernel has zeros in the columns of b, and the recurrent kernel in those of a.
In the gradients of the weights these columns have no meaning. The GRU has no c, and its arrays of c have no elements.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Inputs(NamedTuple):
    """The operands of a run. `mask` and `resets` have the shape (0, 0) if the call has none.

    Primitives take a fixed number of arrays, so that an absent one cannot be None.
    """

    xs: Float[Array, "time batch features"]
    kernel: Float[Array, "features columns"]
    recurrent_kernel: Float[Array, "units columns"]
    bias: Float[Array, " columns"]
    h: Float[Array, "batch units"]
    c: Float[Array, "batch units"]  # (batch, 0) for a cell without c
    mask: Bool[Array, "time batch"]
    resets: Bool[Array, "time batch"]

    @property
    def differentiable(self) -> tuple[Any, ...]:
        """All operands but the boolean ones."""
        return self[:6]

    @property
    def units(self) -> int:
        """The size of h."""
        return self.recurrent_kernel.shape[0]

    @property
    def has_c(self) -> bool:
        """Whether the carry has a cell state c beside h, as that of the LSTM. That of the GRU has none."""
        return self.c.shape[-1] > 0

    @property
    def stores_h(self) -> bool:
        """Whether h before a step may differ from the previous output, so that the derivative needs it as a separate array.

        With a mask or resets it differs: a masked step outputs zero and keeps h, and a reset replaces h.
        """
        return bool(self.mask.size or self.resets.size)


class Outputs(NamedTuple):
    """The results of a run: the outputs of all steps, and the last carry."""

    ys: Float[Array, "time batch units"]
    h: Float[Array, "batch units"]
    c: Float[Array, "batch units"]


class Residuals(NamedTuple):
    """The values of a run that its derivative needs.

    `gates` and `cs` have the layout of `pack`. At steps that do not count the values are finite and have no meaning.
    For a GRU the gates are z, r, g and b, and `cs` has no elements.
    """

    gates: Float[Array, "time batch blocks*4*lanes"]
    cs: Float[Array, "time batch blocks*lanes"]  # c before each step
    hs: Float[Array, "time batch units"]  # h before each step; (0, 0, 0) if not `Inputs.stores_h`


def lanes(dtype: Any) -> int:
    """Return the number of units in a block, which is how many numbers 64 bytes hold."""
    # kUnits in product.h. Kernels with narrower registers use the same blocks, so that the layout is the same for all of them.
    return 64 // jnp.dtype(dtype).itemsize


def blocks(units: int, dtype: Any) -> int:
    """Return the number of blocks for `units` units. The last block may be padded."""
    return -(-units // lanes(dtype))


def pack(parts: tuple[Array, ...]) -> Array:
    """Interleave arrays (…, units) by blocks: each block holds its units of the first array, then of the second, and so on.

    Zeros fill up the last block. The result has the shape (…, blocks · number of arrays · lanes).
    """
    units, dtype = parts[0].shape[-1], parts[0].dtype
    size, count = lanes(dtype), blocks(units, dtype)
    padding = [(0, 0)] * (parts[0].ndim - 1) + [(0, count * size - units)]
    shape = parts[0].shape[:-1]
    split = [jnp.pad(part, padding).reshape(*shape, count, 1, size) for part in parts]
    # (…, blocks, arrays, lanes), with the last three axes merged.
    return jnp.concatenate(split, -2).reshape(*shape, count * len(parts) * size)


def unpack(packed: Array, number: int, units: int) -> tuple[Array, ...]:
    """Return the `number` arrays (…, units) that `pack` packed."""
    size, shape = lanes(packed.dtype), packed.shape[:-1]
    count = blocks(units, packed.dtype)
    split = packed.reshape(*shape, count, number, size)
    return tuple(split[..., k, :].reshape(*shape, count * size)[..., :units] for k in range(number))


# The batch axis of each operand or result; None if it has none
Axes = tuple[int | None, ...]
# In the order of the fields: xs, kernel, recurrent_kernel, bias, h, c, mask, resets.
INPUT_AXES: Axes = (1, None, None, None, 0, 0, 1, 1)
TANGENT_AXES: Axes = INPUT_AXES[:6]  # tangents and gradients of `Inputs.differentiable`
OUTPUT_AXES: Axes = (1, 0, 0)
RESIDUAL_AXES: Axes = (1, 1, 1)
