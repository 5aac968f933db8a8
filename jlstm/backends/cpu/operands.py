"""What goes into a run of the plain LSTM and what comes out of it, as flat records: what primitives and kernels take."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Inputs(NamedTuple):
    """What a run starts from. `mask` and `resets` have the shape (0, 0) where there are none."""

    xs: Float[Array, "time batch features"]
    kernel: Float[Array, "features columns"]
    recurrent_kernel: Float[Array, "units columns"]
    bias: Float[Array, " columns"]
    h: Float[Array, "batch units"]
    c: Float[Array, "batch units"]
    mask: Bool[Array, "time batch"]
    resets: Bool[Array, "time batch"]

    @property
    def differentiable(self) -> tuple[Any, ...]:
        """All but what is true or false."""
        return self[:6]

    @property
    def units(self) -> int:
        """The size of h."""
        return self.recurrent_kernel.shape[0]

    @property
    def carried(self) -> bool:
        """Whether h before a step may be another than y after the step before, and so has to be kept."""
        return bool(self.mask.size or self.resets.size)


class Outputs(NamedTuple):
    """What a run yields."""

    ys: Float[Array, "time batch units"]
    h: Float[Array, "batch units"]
    c: Float[Array, "batch units"]


class Kept(NamedTuple):
    """What a run leaves for its derivative, in the kernel's own layout: see `pack`.

    What a step that does not count leaves has no meaning, but is finite.
    """

    gates: Float[Array, "time batch blocks*4*lanes"]
    cs: Float[Array, "time batch blocks*lanes"]  # c before each step
    hs: Float[Array, "time batch units"]  # h before each step; (0, 0, 0) where it can be seen from ys


def lanes(dtype: Any) -> int:
    """Units of a block: as many numbers as 64 bytes hold."""
    return 64 // jnp.dtype(dtype).itemsize


def blocks(units: int, dtype: Any) -> int:
    """Blocks of a layer; the last may be filled up."""
    return -(-units // lanes(dtype))


def pack(parts: tuple[Array, ...]) -> Array:
    """Put arrays (…, units) beside each other block by block, in a block array by array, filled up with zeros."""
    units, dtype = parts[0].shape[-1], parts[0].dtype
    size, count = lanes(dtype), blocks(units, dtype)
    padding = [(0, 0)] * (parts[0].ndim - 1) + [(0, count * size - units)]
    shape = parts[0].shape[:-1]
    split = [jnp.pad(part, padding).reshape(*shape, count, 1, size) for part in parts]
    return jnp.concatenate(split, -2).reshape(*shape, count * len(parts) * size)


def unpack(packed: Array, number: int, units: int) -> tuple[Array, ...]:
    """The inverse of `pack`."""
    size, shape = lanes(packed.dtype), packed.shape[:-1]
    count = blocks(units, packed.dtype)
    split = packed.reshape(*shape, count, number, size)
    return tuple(split[..., k, :].reshape(*shape, count * size)[..., :units] for k in range(number))


# At which axis each of them has the batch
Axes = tuple[int | None, ...]
OF_INPUTS: Axes = (1, None, None, None, 0, 0, 1, 1)
OF_CHANGE: Axes = OF_INPUTS[:6]  # of what is differentiable
OF_OUTPUTS: Axes = (1, 0, 0)
OF_KEPT: Axes = (1, 1, 1)
