"""The carries and gates that several cells share."""

from typing import Any, NamedTuple

import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float


class LSTMCarry(NamedTuple):
    """What an LSTM hands from one step to the next: the output `h` and the cell state `c`."""

    h: Float[Array, "*batch units"]
    c: Float[Array, "*batch units"]


class HiddenCarry(NamedTuple):
    """What a cell without a cell state hands from one step to the next: its output `h`. GRUs are of this kind."""

    h: Float[Array, "*batch units"]


class LSTMGates(NamedTuple):
    """One array for each gate of an LSTM, before or after their activation functions; `g` is the candidate.

    With coupled gates there are no sums and no weights of one gate: it is None there.
    """

    i: Float[Array, "*batch units"]
    f: Float[Array, "*batch units"]
    g: Float[Array, "*batch units"]
    o: Float[Array, "*batch units"]


# So that `jax.export` can write layers. The names stand in files, so they stay what they were when these types had other names.
jax.export.register_namedtuple_serialization(LSTMCarry, serialized_name="jlstm.Carry")
jax.export.register_namedtuple_serialization(HiddenCarry, serialized_name="jlstm.GRUCarry")


def split_gates(columns: Float[Array, "... columns"], gate_names: str = "ifgo") -> LSTMGates:
    """Split the columns of a kernel or of its product by gate; `gate_names` says in which order they stand."""
    parts = jnp.split(columns, len(gate_names), axis=-1)
    by_name: dict[str, Any] = dict.fromkeys(LSTMGates._fields) | dict(zip(gate_names, parts, strict=True))
    return LSTMGates(**by_name)
