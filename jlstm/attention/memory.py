"""The memory that a cell attends to. It is part of the parameters that `apply` gets, and not of those that are trained."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jlstm._src import checks
from jlstm._src.arguments import answered
from jlstm.attention.functions import positions
from jlstm.cell import Params


class Memory(NamedTuple):
    """What a cell attends to.

    Attributes:
        values: (*batch, source, size), zero at padding.
        mask: 1 at the positions that count, else 0 (*batch, source). It has the dtype of the values.
    """

    values: Float[Array, "*batch source size"]
    mask: Float[Array, "*batch source"]


jax.export.register_namedtuple_serialization(Memory, serialized_name="jlstm.attention.Memory")


@answered("with_memory")
def with_memory(
    params: Params,
    memory: Float[Array, "*batch source size"],
    *,
    lengths: Int[Array, "*batch"] | None = None,
    mask: Bool[Array, "*batch source"] | None = None,
) -> Params:
    """Return the parameters of an `Attention` cell together with the memory that it attends to.

    Pass the result to `layer.apply`, `layer.step`, `layer.initial_carry` or `jlstm.cell_states`. In a Stack it replaces the
    parameters of the layer with the cell: `(params[0], with_memory(params[1], memory))`. The parameters that are trained and
    saved are those without memory. Gradients reach the memory, and so the encoder.

    Args:
        params: the parameters of an `Attention` cell, as `layer.init` returns them.
        memory: the outputs of an encoder, for example. Its batch axes are those of the decoder's inputs; an axis of size 1, or
            one that is missing on the left, is the same memory for all of them.
        lengths: number of positions of each memory that count, from the first one; the others are padding. Traced lengths cannot
            be checked; they are clipped to [0, source].
        mask: True at each position that counts, in place of `lengths`. A position that does not count, even NaN, reaches neither
            results nor gradients.

    Returns:
        A dict with the same arrays, and the key "memory".

    Raises:
        ValueError: a shape does not fit, concrete `lengths` are out of range, or `lengths` and `mask` are both given.
        TypeError: `params` are not those of an `Attention` cell, `memory` is not floating, `lengths` are not integers, or `mask`
            is not boolean.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.attention import Attention, with_memory
        >>> decoder = jlstm.RNN(Attention(jlstm.LSTMCell(4), memory_features=5))
        >>> params, memory = decoder.init(jax.random.key(0), features=3), jax.numpy.ones((2, 7, 5))
        >>> carry, ys = decoder.apply(with_memory(params, memory), jax.numpy.ones((2, 6, 3)))
        >>> ys.shape, carry.weights.shape
        ((2, 6, 5), (2, 7))
    """
    if not isinstance(params, Mapping) or "memory_kernel" not in params:
        got = f"a dict with {', '.join(map(repr, params))}" if isinstance(params, Mapping) else type(params).__name__
        raise TypeError(f"params must be those of an Attention cell, with a memory_kernel, got {got}: pass the part of its layer")
    memory = checks.inputs("memory", memory, axes=("source", "size"))
    if memory.shape[-1] != (size := params["memory_kernel"].shape[0]):
        raise ValueError(f"memory must have {size} features, the memory_features of the cell, got shape {memory.shape}")
    mask = positions(lengths, mask, memory.shape[:-1], "memory")
    if mask is None:
        mask = jnp.ones(memory.shape[:-1], bool)
    # A layer casts all that is in `params` to its compute dtype, so that the mask becomes a number in any case.
    return {**params, "memory": Memory(jnp.where(mask[..., None], memory, 0), mask.astype(memory.dtype))}


def without_memory(params: Any) -> Any:
    """Return the parameters of a layer without any `Memory` in them: what `layer.init` returns."""
    if not any(map(_is_memory, jax.tree.leaves(params, is_leaf=_is_memory))):
        return params
    if isinstance(params, Mapping):
        return {name: without_memory(value) for name, value in params.items() if not _is_memory(value)}
    return tuple(without_memory(value) for value in params)


def _is_memory(value: Any) -> bool:
    return isinstance(value, Memory)
