"""The cells of TensorFlow 1 by the names of their scopes: the names of their variables and their conversion.

An LSTM has a kernel (features + size of h, 4·units), with the rows of x before those of h, and a bias. It may have
w_{i,f,o}_diag and projection/kernel. Its gates are i | j | f | o, where j is g in jlstm. A GRU has the gates r | u and a
candidate with its own kernel, with the rows of x before those of r ⊙ h. The CuDNN-compatible GRU uses r ⊙ (h U + d) instead.
Before TensorFlow 1.2, kernels were called weights.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jlstm import checks
from jlstm.convert import arrays, layout
from jlstm.convert.layout import Part

Weights = dict[str, np.ndarray]

GATES = "igfo"
PEEPHOLES = ("w_i_diag", "w_f_diag", "w_o_diag")
_RENAMED = {
    # before TensorFlow 1.2, as its own checkpoint_convert.py renames them
    "weights": "kernel",
    "biases": "bias",
    # of GRUBlockCell
    "w_ru": "gates/kernel",
    "b_ru": "gates/bias",
    "w_c": "candidate/kernel",
    "b_c": "candidate/bias",
}
_NORMALIZED = ("input", "transform", "forget", "output")  # in the order of GATES
_NORMS = tuple(f"{gate}/{name}" for gate in (*_NORMALIZED, "state") for name in ("gamma", "beta"))
_CUDNN_BIASES = tuple(f"bias_cudnn{separator}{k}" for separator in "_ " for k in (0, 1))
_PROJECTED = tuple(f"candidate/{of}_projection/{name}" for of in ("input", "hidden") for name in ("kernel", "bias"))
_GRU = ("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias")


class CellClass(NamedTuple):
    """A class of cells.

    Attributes:
        part: the function that converts the variables, given the forget bias and the options.
        names: the names of its variables.
        forget_bias: the default value that the cell adds to the forget gate's sum at every step.
        fixed: whether the class has no option to change `forget_bias`.
    """

    part: Callable[[Weights, float, dict[str, Any]], Part]
    names: tuple[str, ...]
    forget_bias: float = 0.0
    fixed: bool = True


def renamed(name: str) -> str:
    """Return the name of a variable as of TensorFlow 1.2 and later.

    Examples:
        >>> renamed("projection/weights")
        'projection/kernel'
    """
    *scopes, last = name.split("/")
    return "/".join([*scopes, _RENAMED.get(last, last)])


def part(cell: str | None, weights: Mapping[str, Any], forget_bias: float | None, options: dict[str, Any]) -> Part:
    """Return the layer and parameters of a cell's variables. If `cell` is None, their names determine the class.

    Raises:
        ValueError: a weight is missing, unexpected, or of another shape or dtype; or an option does not fit.
    """
    arrays_by_name: Weights = {}
    for name, array in arrays.floating("weights", weights).items():
        if renamed(str(name)) in arrays_by_name:
            raise ValueError(f"weights has {renamed(str(name))!r} under two names: pass the weights of one cell")
        arrays_by_name[renamed(str(name))] = array
    if cell is not None:
        checks.one_of("cell", cell, CELLS)
    kind = CELLS[_by_names(arrays_by_name) if cell is None else cell]
    if forget_bias is None:
        forget_bias = kind.forget_bias
    elif kind.fixed and cell is not None and checks.number("forget_bias", forget_bias) != kind.forget_bias:
        raise ValueError(f"a {cell} adds no forget_bias, got forget_bias={forget_bias}: leave it out")
    return kind.part(arrays_by_name, checks.number("forget_bias", forget_bias), options)


def _by_names(weights: Weights) -> str:
    telling = {"candidate/hidden_projection/kernel": "cudnn_compatible_gru_cell", "gates/kernel": "gru_cell"}
    telling["state/gamma"] = "layer_norm_basic_lstm_cell"
    return next((cell for name, cell in telling.items() if name in weights), "lstm_cell")


def _lstm(weights: Weights, forget_bias: float, options: dict[str, Any]) -> Part:
    rows, columns = arrays.matrix("weights", weights, "kernel", "(features + size of h, 4·units)").shape
    units, rest = divmod(columns, 4)
    projected = "projection/kernel" in weights
    size = arrays.matrix("weights", weights, "projection/kernel", "(units, size of h)").shape[1] if projected else units
    if rest or rows <= size:
        raise ValueError(
            f"weights['kernel'] must be (features + size of h, 4·units), got {rows, columns}: pass that of an LSTM cell"
        )
    shapes: dict[str, tuple[int, ...]] = {"kernel": (rows, columns), "bias": (columns,)}
    shapes |= {"projection/kernel": (units, size)} if projected else {}
    peephole = any(name in weights for name in PEEPHOLES)
    shapes |= dict.fromkeys(PEEPHOLES, (units,)) if peephole else {}
    arrays.fit("weights", weights, shapes)
    params, more = _plain(weights["kernel"], weights["bias"], rows - size, forget_bias), {}
    if peephole:
        params["peephole_kernel"], more["peephole"] = np.stack([weights[name] for name in PEEPHOLES]), True
    if projected:
        params["projection_kernel"], more["projection"] = weights["projection/kernel"], size
    return layout.rnn("LSTM", units, params, **more, **options)


def _plain(kernel: np.ndarray, bias: np.ndarray, features: int, forget_bias: float) -> dict[str, Any]:
    kernel, bias = (layout.order(array, GATES, "ifgo") for array in (kernel, bias))
    units = len(bias) // 4
    if forget_bias:  # adding 0 would turn -0.0 into 0.0
        bias[units : 2 * units] += bias.dtype.type(forget_bias)
    return {"kernel": kernel[:features], "recurrent_kernel": kernel[features:], "bias": bias}


def _normalized(weights: Weights, forget_bias: float, options: dict[str, Any]) -> Part:
    """Convert a LayerNormBasicLSTMCell: gates are normalized before γ, β and the forget bias, and c before it is carried."""
    if not weights.keys() & set(_NORMS):  # layer_norm=False
        return _lstm(weights, forget_bias, options)
    rows, columns = arrays.matrix("weights", weights, "kernel", "(features + units, 4·units)").shape
    units, rest = divmod(columns, 4)
    if rest or rows <= units:
        raise ValueError(f"weights['kernel'] must be (features + units, 4·units), got {rows, columns}: pass that of the cell")
    arrays.fit("weights", weights, {"kernel": (rows, columns)} | dict.fromkeys(_NORMS, (units,)))
    scale, offset = (np.concatenate([weights[f"{gate}/{name}"] for gate in _NORMALIZED]) for name in ("gamma", "beta"))
    params = _plain(weights["kernel"], offset, rows - units, forget_bias)
    params["gate_norm"] = {"scale": layout.order(scale, GATES, "ifgo")}
    params["state_norm"] = {"scale": weights["state/gamma"], "offset": weights["state/beta"]}
    return layout.rnn("LSTM", units, params, layer_norm="tf_contrib", **options)


def _gru(weights: Weights, _: float, options: dict[str, Any]) -> Part:
    rows, columns, units = _gates(weights)
    shapes: dict[str, tuple[int, ...]] = {"gates/kernel": (rows, columns), "gates/bias": (columns,)}
    arrays.fit("weights", weights, shapes | {"candidate/kernel": (rows, units), "candidate/bias": (units,)})
    joined = [np.concatenate([weights[f"gates/{name}"], weights[f"candidate/{name}"]], -1) for name in ("kernel", "bias")]
    kernel, bias = (layout.order(array, "rzg", "zrg") for array in joined)
    params = {"kernel": kernel[:-units], "recurrent_kernel": kernel[-units:], "bias": bias}
    return layout.rnn("GRU", units, params, reset_after=False, **options)


def _gates(weights: Weights) -> tuple[int, int, int]:
    rows, columns = arrays.matrix("weights", weights, "gates/kernel", "(features + units, 2·units)").shape
    units, rest = divmod(columns, 2)
    if rest or rows <= units:
        raise ValueError(
            f"weights['gates/kernel'] must be (features + units, 2·units), got {rows, columns}: pass that of a GRUCell"
        )
    return rows, columns, units


def _cudnn_gru(weights: Weights, _: float, options: dict[str, Any]) -> Part:
    rows, columns, units = _gates(weights)
    features, weights = rows - units, _summed(weights, "gates/bias")
    shapes: dict[str, tuple[int, ...]] = {"gates/kernel": (rows, columns), "gates/bias": (columns,)}
    sizes = dict(zip(_PROJECTED, ((features, units), (units,), (units, units), (units,)), strict=True))
    arrays.fit("weights", weights, shapes | sizes)
    x_kernel, x_bias, h_kernel, h_bias = (weights[name] for name in _PROJECTED)
    gates = weights["gates/kernel"]
    joined = [np.concatenate([gates[:features], x_kernel], 1), np.concatenate([gates[features:], h_kernel], 1)]
    joined.append(np.concatenate([weights["gates/bias"], x_bias]))
    kernel, recurrent_kernel, bias = (layout.order(array, "rzg", "zrg") for array in joined)
    params = {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias, "recurrent_bias": h_bias}
    return layout.rnn("GRU", units, params, reset_after=True, **options)


def _cudnn_lstm(weights: Weights, forget_bias: float, options: dict[str, Any]) -> Part:
    return _lstm(_summed(weights, "bias"), forget_bias, options)


def _summed(weights: Weights, name: str) -> Weights:
    """Return the weights without CuDNN's two biases, after a check that the bias `name` is their sum."""
    terms = [weights[term] for term in _CUDNN_BIASES if term in weights]
    total = weights.get(name)
    if terms and (total is None or len(terms) != 2 or any(term.shape != total.shape for term in terms)):
        raise ValueError(f"weights has CuDNN's biases that do not fit its {name!r}: pass the weights of one cell")
    # The terms were added in this dtype, with one rounding. The tolerance is relative to them, since the sum may cancel.
    if total is not None and terms:
        rounding = 2 * np.finfo(np.float32).eps if total.dtype.itemsize > 2 else 0.01
        if not np.allclose(total, sum(terms), rtol=0, atol=rounding * float(max(1e-6, *(abs(term).max() for term in terms)))):
            raise ValueError(f"weights has {name!r} that is not the sum of CuDNN's biases beside it: leave out what is wrong")
    return {key: array for key, array in weights.items() if key not in _CUDNN_BIASES}


def _elman(weights: Weights, _: float, options: dict[str, Any]) -> Part:
    rows, units = arrays.matrix("weights", weights, "kernel", "(features + units, units)").shape
    if rows <= units:
        raise ValueError(f"weights['kernel'] must be (features + units, units), got {rows, units}: pass that of a BasicRNNCell")
    arrays.fit("weights", weights, {"kernel": (rows, units), "bias": (units,)})
    kernel = weights["kernel"]
    params = {"kernel": kernel[:-units], "recurrent_kernel": kernel[-units:], "bias": weights["bias"]}
    return layout.rnn("RNN", units, params, **options)


_PLAIN = ("kernel", "bias")
_ALL = (*_PLAIN, *PEEPHOLES, "projection/kernel")
CELLS = {
    "basic_rnn_cell": CellClass(_elman, _PLAIN),
    "basic_lstm_cell": CellClass(_lstm, _PLAIN, 1.0, fixed=False),
    **dict.fromkeys(("lstm_cell", "lstm_block_cell", "lstm_fused_cell"), CellClass(_lstm, _ALL, 1.0, fixed=False)),
    "layer_norm_basic_lstm_cell": CellClass(_normalized, (*_PLAIN, *_NORMS), 1.0, fixed=False),
    **dict.fromkeys(("gru_cell", "gru_block_cell"), CellClass(_gru, _GRU)),
    "cudnn_compatible_lstm_cell": CellClass(_cudnn_lstm, (*_PLAIN, *_CUDNN_BIASES)),
    "cudnn_compatible_gru_cell": CellClass(_cudnn_gru, ("gates/kernel", "gates/bias", *_PROJECTED, *_CUDNN_BIASES)),
}
