"""The LSTM with peepholes, projection, clips and coupled gates.

References:
    LSTM: Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", https://doi.org/10.1162/neco.1997.9.8.1735
    Forget gate: Gers, Schmidhuber & Cummins 2000, "Learning to Forget: Continual Prediction with LSTM",
        https://doi.org/10.1162/089976600300015015
    Peepholes: Gers & Schmidhuber 2000, "Recurrent Nets that Time and Count", https://doi.org/10.1109/IJCNN.2000.861302
    Projection: Sak, Senior & Beaufays 2014, https://arxiv.org/abs/1402.1128
    Coupled gates: Greff et al. 2017, "LSTM: A Search Space Odyssey", https://arxiv.org/abs/1503.04069
    Dropout of g: Semeniuta, Severyn & Barth 2016, "Recurrent Dropout without Memory Loss", https://arxiv.org/abs/1603.05118
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import jlstm
from parity.textbook.functions import activations, all_known, by_gate, cut, masks

GATES = {None: "ifgo", "f=1-i": "igo", "i=1-f": "fgo"}  # the gates that have weights, in the order of their columns
Carry = jlstm.LSTMCarry


def knows(cell: Any) -> bool:
    """Whether the textbook supports the cell: known activations, no layer normalization."""
    return cell.layer_norm is None and all_known((cell.recurrent_activation, cell.activation, cell.output_activation or "tanh"))


def initial_bias(cell: Any) -> list[np.ndarray]:
    """Return the initial bias: zeros, but the forget bias in the columns of f if the cell has weights for f."""
    values = [(cell.forget_bias or 0.0) if name == "f" else 0.0 for name in GATES[cell.coupled]]
    return [np.repeat(values, cell.units)] if cell.use_bias else []


def zeros(cell: Any, batch: int) -> tuple[np.ndarray, ...]:
    """Return the initial state: zero h, as large as the projection if there is one, and zero c."""
    return np.zeros((batch, cell.projection or cell.units)), np.zeros((batch, cell.units))


def step(
    cell: Any,
    params: Mapping[str, np.ndarray],
    x: np.ndarray,
    state: tuple[np.ndarray, ...],
    dropout_masks: Mapping[str, np.ndarray],
) -> tuple[tuple[np.ndarray, ...], Callable]:
    r"""Run one step, with a_k = x W_k + h U_k + b_k for each gate k, and \[·\] a clip.

    i = σ[a_i + p_i c], f = σ[a_f + p_f c], g = φ[a_g], c' = [f c + i g], o = σ[a_o + p_o c'], h' = [(o ψ(c')) P + q].
    """
    h, c = state
    names, on_g = GATES[cell.coupled], cell.recurrent_dropout_on == "g"
    sigma, phi, psi = activations(cell.recurrent_activation, cell.activation, cell.output_activation or cell.activation)
    W, U = (by_gate(params[name], names) for name in ("kernel", "recurrent_kernel"))
    b = by_gate(params["bias"], names) if cell.use_bias else dict.fromkeys(names, 0.0)
    # g has no peephole, so `peephole_kernel` has a row for each other name, in the same order.
    p = dict(zip(names.replace("g", ""), params["peephole_kernel"], strict=True)) if cell.peephole else {}
    on_x, on_h = masks(dropout_masks, "inputs", names, x), masks({} if on_g else dropout_masks, "recurrent", names, h)
    # A mask of g drops what is added to c and never what c remembers (Semeniuta et al.).
    keep = dropout_masks["recurrent"][0] if on_g and "recurrent" in dropout_masks else 1.0

    def gate(k: str, c: np.ndarray) -> tuple[np.ndarray, Callable]:
        """Return the activation of gate k and a function for its derivative, which only gradients call."""
        a, inside = cut((x * on_x[k]) @ W[k] + (h * on_h[k]) @ U[k] + b[k] + p.get(k, 0.0) * c, cell.gate_clip)
        function, derivative = phi if k == "g" else sigma
        return function(a), lambda: derivative(a) * inside

    gates = {k: gate(k, c) for k in names if k != "o"}
    # Of coupled gates only one has weights. The other one is 1 minus it.
    i = gates["i"][0] if "i" in names else 1 - gates["f"][0]
    f = gates["f"][0] if "f" in names else 1 - gates["i"][0]
    g = gates["g"][0] * keep
    c_after, inside_c = cut(f * c + i * g, cell.cell_clip)
    gates["o"] = gate("o", c_after)  # last, because its peephole sees the new c
    o = gates["o"][0]
    unprojected = o * psi[0](c_after)
    h_after, project_pullback = _project(cell, params, unprojected)

    def pullback(d_state: tuple[np.ndarray, ...]) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[np.ndarray, ...]]:
        d_unprojected, d_params = project_pullback(d_state[0])
        d_o = d_unprojected * psi[0](c_after) * gates["o"][1]()
        # c' has three uses: the next step, the output through ψ, and the peephole of o.
        d_c_after = d_state[1] + d_unprojected * o * psi[1](c_after) + p.get("o", 0.0) * d_o
        # Where c' was cut, it no longer depends on f, c, i and g: the gradient stops there.
        d_sum = d_c_after * inside_c
        d_i, d_f = d_sum * g, d_sum * c
        # A coupled gate gets the gradients of both i and f, that of the derived gate with the opposite sign.
        d_gates = {"i": d_i if "f" in names else d_i - d_f, "f": d_f if "i" in names else d_f - d_i, "g": d_sum * i * keep}
        d_a = {k: d_gates[k] * gates[k][1]() for k in names if k != "o"} | {"o": d_o}
        d_params["kernel"] = np.concatenate([(x * on_x[k]).T @ d_a[k] for k in names], 1)
        d_params["recurrent_kernel"] = np.concatenate([(h * on_h[k]).T @ d_a[k] for k in names], 1)
        d_params["bias"] = np.concatenate([d_a[k].sum(0) for k in names])
        peephole_input = {"i": c, "f": c, "o": c_after}
        d_params["peephole_kernel"] = np.stack([(d_a[k] * peephole_input[k]).sum(0) for k in names if k != "g"])
        d_x = sum(d_a[k] @ W[k].T * on_x[k] for k in names)
        d_h = sum(d_a[k] @ U[k].T * on_h[k] for k in names)
        # c reaches c' through f, and i and f through their peepholes. The peephole of o saw c', counted above.
        return d_params, d_x, (d_h, d_sum * f + sum(p[k] * d_a[k] for k in p if k != "o"))

    return (h_after, c_after), pullback


def _project(cell: Any, params: Mapping[str, np.ndarray], unprojected: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Return h' from o ψ(c'), and the pullback of the projection."""
    if cell.projection is None:
        return unprojected, lambda d_h: (d_h, {})
    P = params["projection_kernel"]
    h, inside = cut(unprojected @ P + params.get("projection_bias", 0.0), cell.projection_clip)

    def pullback(d_h: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        d = d_h * inside
        return d @ P.T, {"projection_kernel": unprojected.T @ d, "projection_bias": d.sum(0)}

    return h, pullback
