"""Equations of cells that `parity.textbook` does not have, in NumPy, step by step."""

import numpy as np

from jlstm.cells import HiddenCarry
from parity import textbook

ONES = np.ones((1, 1))


def elman(cell, params, xs, carry, mask=None, dropout_masks=None):
    """Return the last carry and the outputs of the plain recurrent network."""
    phi, dropout_masks = textbook.ACTIVATIONS[cell.activation][0], dropout_masks or {}
    h, ys = carry.h, []
    for t in range(xs.shape[1]):
        x = xs[:, t] * dropout_masks.get("inputs", ONES)[0]
        after = phi(
            x @ params["kernel"]
            + h * dropout_masks.get("recurrent", ONES)[0] @ params["recurrent_kernel"]
            + params.get("bias", 0)
        )
        counts = np.ones((len(xs), 1), bool) if mask is None else mask[:, t, None]
        h = np.where(counts, after, h)
        ys.append(np.where(counts, after, 0))
    return HiddenCarry(h), np.stack(ys, 1)


def slstm(cell, params, xs):
    """Return the outputs from a carry of zeros: Beck et al. 2024, equations 8 to 14, without the stabilizer."""
    phi, batch = _forget(cell), len(xs)
    h = c = n = np.zeros((batch, cell.units))
    ys = []
    for t in range(xs.shape[1]):
        h_heads = np.split(h, cell.heads, -1)
        recurrent = [np.split(h_head @ kernel, 4, -1) for h_head, kernel in zip(h_heads, params["recurrent_kernel"], strict=True)]
        of_x = np.split(xs[:, t] @ params["kernel"] + params.get("bias", 0), 4, -1)
        i, f, g, o = (x + np.concatenate(parts, -1) for x, parts in zip(of_x, zip(*recurrent, strict=True), strict=True))
        c, n = phi(f) * c + np.exp(i) * np.tanh(g), phi(f) * n + np.exp(i)
        h = textbook.sigmoid(o) * c / n
        ys.append(h)
    return np.stack(ys, 1)


def mlstm(cell, params, xs):
    """Return the outputs from a carry of zeros: equations 19 to 27 of the same paper, without the stabilizer, head by head."""
    phi, batch, size = _forget(cell), len(xs), cell.units // cell.heads
    matrix, n = np.zeros((cell.heads, batch, size, size)), np.zeros((cell.heads, batch, size))
    ys = []
    for t in range(xs.shape[1]):
        q, k, v, o = np.split(xs[:, t] @ params["kernel"] + params.get("bias", 0), 4, -1)
        i, f = np.split(xs[:, t] @ params["gate_kernel"] + params.get("gate_bias", 0), 2, -1)
        q, k, v = (np.stack(np.split(a, cell.heads, -1)) for a in (q, k / np.sqrt(size), v))
        enter, forget = np.exp(i.T)[..., None], phi(f.T)[..., None]
        matrix = forget[..., None] * matrix + enter[..., None] * v[..., :, None] * k[..., None, :]
        n = forget * n + enter * k
        readout = (matrix @ q[..., None])[..., 0] / np.maximum(np.abs((n * q).sum(-1)), 1)[..., None]
        ys.append(textbook.sigmoid(o) * np.concatenate(list(readout), -1))
    return np.stack(ys, 1)


def _forget(cell):
    return np.exp if cell.forget_gate == "exp" else textbook.sigmoid
