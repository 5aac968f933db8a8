"""The parameters of a cell in the layout of the native kernels, which have four columns for each unit.

The LSTM's are i, f, g and o. With coupled gates, the columns of the gate that has no weights are zero.

The GRU's are z, r, a and b, with which its candidate is tanh(a + r b). a depends on x and b on h, so that `kernel` has zeros in
the columns of b, and `recurrent_kernel` in those of a.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jlstm.backends.native.operands import vary_over, varying_axes
from jlstm.cell import Params
from jlstm.cells.gru import GRUCell
from jlstm.cells.lstm import LSTMCell

PLAIN: dict[str, Any] = {"activation": "tanh", "recurrent_activation": "sigmoid", "output_activation": "tanh"}
PLAIN |= {"coupled": "", "cell_clip": np.inf, "gate_clip": np.inf}


class Weights(NamedTuple):
    """The weights of a cell in columns."""

    kernel: Float[Array, "features columns"]
    recurrent_kernel: Float[Array, "units columns"]
    bias: Float[Array, " columns"]
    peepholes: Float[Array, "3 units"]  # rows i, f, o; (0, 0) without peepholes
    projection: Float[Array, "units+1 projected"]  # the last row is the bias; (0, 0) without projection


def weights(cell: Any, params: Params) -> Weights:
    """Return the parameters of an LSTM or GRU in the layout of the kernels. The result is linear in them."""
    return (_of_gru if isinstance(cell, GRUCell) else _of_lstm)(cell, params)


def pull_back(cell: Any, params: Params, dweights: Weights) -> Params:
    """Return the gradients of the parameters from those of `weights`."""
    columns, pull_back = jax.vjp(partial(weights, cell), params)
    # In `shard_map` results of a kernel do not vary over the mesh, as far as JAX knows, and parameters may.
    return pull_back(jax.tree.map(lambda leaf, like: vary_over(leaf, varying_axes(like)), dweights, columns))[0]


def _of_lstm(cell: LSTMCell, params: Params) -> Weights:
    def columns(weights: Array) -> Array:
        if cell.gate_names == "ifgo":
            return weights
        parts = dict(zip(cell.gate_names, jnp.split(weights, len(cell.gate_names), axis=-1), strict=True))
        return jnp.concatenate([parts.get(name, jnp.zeros_like(parts["g"])) for name in "ifgo"], axis=-1)

    kernel = columns(params["kernel"])
    bias = columns(params["bias"]) if cell.use_bias else jnp.zeros(kernel.shape[-1], kernel.dtype)
    peepholes = jnp.zeros((0, 0), kernel.dtype)
    if cell.peephole:
        rows = dict(zip(cell.gate_names.replace("g", ""), params["peephole_kernel"], strict=True))
        peepholes = jnp.stack([rows.get(name, jnp.zeros_like(rows["o"])) for name in "ifo"])
    projection = jnp.zeros((0, 0), kernel.dtype)
    if cell.projection is not None:
        matrix = params["projection_kernel"]
        last_row = params["projection_bias"] if cell.projection_bias else jnp.zeros(cell.projection, kernel.dtype)
        projection = jnp.concatenate([matrix, last_row[None]])
    return Weights(kernel, columns(params["recurrent_kernel"]), bias, peepholes, projection)


def _of_gru(cell: GRUCell, params: Params) -> Weights:
    kernel, recurrent_kernel = params["kernel"], params["recurrent_kernel"]
    gates, candidate = jnp.split(recurrent_kernel, [2 * cell.units], axis=1)
    biases = [params["bias"], params["recurrent_bias"]] if cell.use_bias else [jnp.zeros(4 * cell.units, kernel.dtype)]
    return Weights(
        jnp.concatenate([kernel, jnp.zeros((kernel.shape[0], cell.units), kernel.dtype)], axis=1),
        jnp.concatenate([gates, jnp.zeros_like(candidate), candidate], axis=1),
        jnp.concatenate(biases),
        jnp.zeros((0, 0), kernel.dtype),
        jnp.zeros((0, 0), kernel.dtype),
    )


def attributes(cell: Any, *, reverse: bool) -> dict[str, Any]:
    """Return the options of a call of a kernel, which has three cells: the plain LSTM, other LSTMs, and the GRU."""
    options: dict[str, Any] = {name: getattr(cell, name) for name in ("activation", "recurrent_activation")}
    options |= {"output_activation": getattr(cell, "output_function", ""), "coupled": getattr(cell, "coupled", None) or ""}
    options |= {name: np.float64(getattr(cell, name, None) or np.inf) for name in ("cell_clip", "gate_clip")}
    is_plain = options == PLAIN and not getattr(cell, "peephole", False)
    name = "gru" if isinstance(cell, GRUCell) else "lstm" if is_plain else "lstm variant"
    return options | {"cell": name, "reverse": reverse}
