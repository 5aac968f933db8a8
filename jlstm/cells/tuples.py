"""The carries and gates that several cells share."""

from typing import Any, NamedTuple

import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float


class LSTMCarry(NamedTuple):
    """The carry of an LSTM: the output `h` and the cell state `c`."""

    h: Float[Array, "*batch units"]
    c: Float[Array, "*batch units"]


class HiddenCarry(NamedTuple):
    """The carry of a cell without a cell state, such as a GRU: its output `h`."""

    h: Float[Array, "*batch units"]


class LSTMGates(NamedTuple):
    """One array for each gate of an LSTM, before or after the activation functions; `g` is the candidate.

    With coupled gates one of them has no weights. Where this holds weights or sums, that gate is None.
    """

    i: Float[Array, "*batch units"]
    f: Float[Array, "*batch units"]
    g: Float[Array, "*batch units"]
    o: Float[Array, "*batch units"]


# `jax.export` needs this to write layers. The names are in files, so they must stay as they are, though the types are renamed.
jax.export.register_namedtuple_serialization(LSTMCarry, serialized_name="jlstm.Carry")
jax.export.register_namedtuple_serialization(HiddenCarry, serialized_name="jlstm.GRUCarry")


def split_gates(columns: Float[Array, "... columns"], gate_names: str = "ifgo") -> LSTMGates:
    """Split the columns of a kernel, or of a product with it, by gate.

    Args:
        columns: an array whose last axis holds the columns of all gates side by side.
        gate_names: one letter for each gate, in the order of the columns.

    Returns:
        The columns of each gate. A gate that is not named is None.
    """
    parts = jnp.split(columns, len(gate_names), axis=-1)
    by_name: dict[str, Any] = dict.fromkeys(LSTMGates._fields) | dict(zip(gate_names, parts, strict=True))
    return LSTMGates(**by_name)
