"""The gates of an LSTM, and how the variants compute them from their sums."""

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm.activations import Activation, activation
from jlstm.cell import Carry, Noise, Params
from jlstm.cells.normalization import SCHEMES, along, normalize
from jlstm.dropout import gated_matmul

if TYPE_CHECKING:
    from jlstm.cells.lstm import LSTMCell

COUPLINGS = {None: "ifgo", "f=1-i": "igo", "i=1-f": "fgo"}  # the gates that have weights


class Gates(NamedTuple):
    """One array for each gate of an LSTM, before or after their activation functions; `g` is the candidate.

    Of sums and weights that a coupled gate does not have, None.
    """

    i: Float[Array, "*batch units"]
    f: Float[Array, "*batch units"]
    g: Float[Array, "*batch units"]
    o: Float[Array, "*batch units"]


def by_gate(columns: Float[Array, "... columns"], names: str = "ifgo") -> Gates:
    """Take apart what a kernel yields: columns in the order of `names`."""
    parts: dict[str, Any] = dict.fromkeys(Gates._fields) | dict(zip(names, jnp.split(columns, len(names), axis=-1), strict=True))
    return Gates(**parts)


class Extras(NamedTuple):
    """What a gate's sum goes through besides its function, gate by gate; None where there is no such thing."""

    peephole: Gates | None
    scale: Gates | None
    bias: Gates | None  # where it is added only after the normalisation

    @classmethod
    def of(cls, cell: "LSTMCell", params: Params) -> Self:
        """Those of a cell."""
        late = "gate_norm" in params
        rows: dict[str, Any] = dict.fromkeys(Gates._fields)
        if cell.peephole:
            rows |= dict(zip(cell.names.replace("g", ""), params["peephole_kernel"], strict=True))
        return cls(
            Gates(**rows) if cell.peephole else None,
            by_gate(params["gate_norm"]["scale"], cell.names) if late else None,
            by_gate(params["bias"], cell.names) if late and cell.use_bias else None,
        )


def through(cell: "LSTMCell", params: Params, context: Noise, carry: Carry, z: Gates) -> tuple[Gates, Array]:
    """What the gates let through, and the new c: the equations of `LSTMCell` but for the last."""
    masks = context.get("recurrent") if cell.recurrent_dropout_on == "h" else None
    recurrent = gated_matmul(carry.h, params["recurrent_kernel"], masks)
    if "recurrent_norm" in params:
        recurrent = normalize(recurrent, params["recurrent_norm"], cell.epsilon)
    sums, extras = jax.tree.map(jnp.add, z, by_gate(recurrent, cell.names)), Extras.of(cell, params)

    def let(name: str, function: Activation, c: Array) -> Array:
        a = getattr(sums, name)
        if extras.peephole and name != "g":
            a = a + along(getattr(extras.peephole, name), a) * c
        if extras.scale:
            a = normalize(a, {"scale": getattr(extras.scale, name)}, cell.epsilon)
        if extras.bias:
            a = a + along(getattr(extras.bias, name), a)
        return activation(function)(cut(a, cell.gate_clip))

    if cell.coupled == "f=1-i":
        i = let("i", cell.recurrent_activation, carry.c)
        f = 1 - i
    else:
        f = let("f", cell.recurrent_activation, carry.c)
        i = 1 - f if cell.coupled else let("i", cell.recurrent_activation, carry.c)
    g = let("g", cell.activation, carry.c)
    enters = i * g
    if cell.recurrent_dropout_on == "g" and "recurrent" in context:
        enters = enters * context["recurrent"][0]
    c = f * carry.c + enters
    if cell.layer_norm and SCHEMES[cell.layer_norm].state == "carried":
        c = normalize(c, params["state_norm"], cell.epsilon)
    c = cut(c, cell.cell_clip)
    return Gates(i, f, g, let("o", cell.recurrent_activation, c)), c


def output(cell: "LSTMCell", params: Params, o: Array, c: Array) -> Array:
    """The last equation: h' from o and the new c."""
    if cell.layer_norm and SCHEMES[cell.layer_norm].state == "output":
        c = normalize(c, params["state_norm"], cell.epsilon)
    h = o * activation(cell.psi)(c)
    if cell.projection is None:
        return h
    h = h @ params["projection_kernel"]
    if cell.projection_bias:
        h = h + along(params["projection_bias"], h)
    return cut(h, cell.projection_clip)


def cut(x: Array, bound: float | None) -> Array:
    """Cut off what is beyond ±bound."""
    return x if bound is None else jnp.clip(x, -bound, bound)
