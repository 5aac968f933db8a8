"""Conversion of the cell classes of TensorFlow 1, which `CELLS` lists by the names of their scopes in a checkpoint.

An LSTM has a kernel (features + size of h, 4·units), with the rows of x before those of h, and a bias. It may have
w_{i,f,o}_diag and projection/kernel. Its gates are i | j | f | o, where j is g in jlstm. A GRU has the gates r | u and a
candidate with its own kernel, with the rows of x before those of r ⊙ h. The CuDNN-compatible GRU uses r ⊙ (h U + d) instead.
Before TensorFlow 1.2, kernels were called weights.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jlstm._src import checks
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
_NORM_SCOPES = ("input", "transform", "forget", "output")  # in the order of GATES
_NORMS = tuple(f"{gate}/{name}" for gate in (*_NORM_SCOPES, "state") for name in ("gamma", "beta"))
# A checkpoint of CudnnLSTM or CudnnGRU also has CuDNN's two biases. The cell's bias is their sum.
_CUDNN_BIASES = tuple(f"bias_cudnn{separator}{k}" for separator in "_ " for k in (0, 1))
_PROJECTED = tuple(f"candidate/{operand}_projection/{name}" for operand in ("input", "hidden") for name in ("kernel", "bias"))
_GRU = ("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias")


class CellClass(NamedTuple):
    """A class of TensorFlow 1 cells.

    Attributes:
        part: the function that converts the variables. It takes the variables, the forget bias and the options.
        names: the names of the variables that such a cell may have.
        forget_bias: the default value that the cell adds to the forget gate's sum at every step.
        fixed: whether the class has no option to change `forget_bias`.
    """

    part: Callable[[Weights, float, dict[str, Any]], Part]
    names: tuple[str, ...]
    forget_bias: float = 0.0
    fixed: bool = True


def current_name(name: str) -> str:
    """Return the name of a variable as of TensorFlow 1.2 and later.

    Examples:
        >>> current_name("projection/weights")
        'projection/kernel'
    """
    *scopes, last = name.split("/")
    return "/".join([*scopes, _RENAMED.get(last, last)])


def part(cell: str | None, weights: Mapping[str, Any], forget_bias: float | None, options: dict[str, Any]) -> Part:
    """Return the layer and parameters of a cell.

    Args:
        cell: the name of the cell's class in `CELLS`. If None, the names of the variables determine the class.
        weights: the cell's variables by name.
        forget_bias: the value that the cell adds to the forget gate. None is the default of the class.
        options: options of the layer that the arrays do not determine.

    Raises:
        ValueError: a weight is missing, unexpected, or of another shape or dtype; or an option does not fit.
    """
    arrays_by_name: Weights = {}
    for name, array in arrays.floating("weights", weights).items():
        if current_name(str(name)) in arrays_by_name:
            raise ValueError(f"weights has {current_name(str(name))!r} under two names: pass the weights of one cell")
        arrays_by_name[current_name(str(name))] = array
    if cell is not None:
        checks.one_of("cell", cell, CELLS)
    kind = CELLS[_infer_class(arrays_by_name) if cell is None else cell]
    if forget_bias is None:
        forget_bias = kind.forget_bias
    elif kind.fixed and cell is not None and checks.number("forget_bias", forget_bias) != kind.forget_bias:
        raise ValueError(f"a {cell} adds no forget_bias, got forget_bias={forget_bias}: leave it out")
    return kind.part(arrays_by_name, checks.number("forget_bias", forget_bias), options)


def _infer_class(weights: Weights) -> str:
    """Return the class of cells that has variables of these names."""
    # The CuDNN-compatible GRU comes first, because it has gates/kernel too.
    distinctive = {"candidate/hidden_projection/kernel": "cudnn_compatible_gru_cell", "gates/kernel": "gru_cell"}
    distinctive["state/gamma"] = "layer_norm_basic_lstm_cell"
    return next((cell for name, cell in distinctive.items() if name in weights), "lstm_cell")


def _lstm(weights: Weights, forget_bias: float, options: dict[str, Any]) -> Part:
    """Convert an LSTM cell, with or without peepholes and a projection."""
    rows, columns = arrays.matrix("weights", weights, "kernel", "(features + size of h, 4·units)").shape
    units, remainder = divmod(columns, 4)
    projected = "projection/kernel" in weights
    size = arrays.matrix("weights", weights, "projection/kernel", "(units, size of h)").shape[1] if projected else units
    if remainder or rows <= size:
        raise ValueError(
            f"weights['kernel'] must be (features + size of h, 4·units), got {rows, columns}: pass that of an LSTM cell"
        )
    shapes: dict[str, tuple[int, ...]] = {"kernel": (rows, columns), "bias": (columns,)}
    shapes |= {"projection/kernel": (units, size)} if projected else {}
    peephole = any(name in weights for name in PEEPHOLES)
    shapes |= dict.fromkeys(PEEPHOLES, (units,)) if peephole else {}
    arrays.fit("weights", weights, shapes)
    params, inferred = _split_kernel(weights["kernel"], weights["bias"], rows - size, forget_bias), {}
    if peephole:
        params["peephole_kernel"], inferred["peephole"] = np.stack([weights[name] for name in PEEPHOLES]), True
    if projected:
        params["projection_kernel"], inferred["projection"] = weights["projection/kernel"], size
    return layout.rnn("LSTM", units, params, **inferred, **options)


def _split_kernel(kernel: np.ndarray, bias: np.ndarray, features: int, forget_bias: float) -> dict[str, Any]:
    """Split the kernel of [x, h] into the two kernels of jlstm, reorder the gates, and add the forget bias to the bias."""
    kernel, bias = (layout.order(array, GATES, "ifgo") for array in (kernel, bias))
    units = len(bias) // 4
    if forget_bias:  # adding 0 would turn -0.0 into 0.0
        bias[units : 2 * units] += bias.dtype.type(forget_bias)
    return {"kernel": kernel[:features], "recurrent_kernel": kernel[features:], "bias": bias}


def _layer_norm_lstm(weights: Weights, forget_bias: float, options: dict[str, Any]) -> Part:
    """Convert a LayerNormBasicLSTMCell.

    It normalizes each gate, then applies γ and β and adds the forget bias. It normalizes c before c is carried to the next step.
    With `layer_norm`, the cell has no bias, so β takes its place.
    """
    if not weights.keys() & set(_NORMS):  # layer_norm=False
        return _lstm(weights, forget_bias, options)
    rows, columns = arrays.matrix("weights", weights, "kernel", "(features + units, 4·units)").shape
    units, remainder = divmod(columns, 4)
    if remainder or rows <= units:
        raise ValueError(f"weights['kernel'] must be (features + units, 4·units), got {rows, columns}: pass that of the cell")
    arrays.fit("weights", weights, {"kernel": (rows, columns)} | dict.fromkeys(_NORMS, (units,)))
    scale, offset = (np.concatenate([weights[f"{gate}/{name}"] for gate in _NORM_SCOPES]) for name in ("gamma", "beta"))
    params = _split_kernel(weights["kernel"], offset, rows - units, forget_bias)
    params["gate_norm"] = {"scale": layout.order(scale, GATES, "ifgo")}
    params["state_norm"] = {"scale": weights["state/gamma"], "offset": weights["state/beta"]}
    return layout.rnn("LSTM", units, params, layer_norm="tf_contrib", **options)


def _gru(weights: Weights, _: float, options: dict[str, Any]) -> Part:
    # TensorFlow 1 computes h' = u h + (1 - u) a, as jlstm does, so u becomes z without a change of sign.
    rows, columns, units = _gates(weights)
    shapes: dict[str, tuple[int, ...]] = {"gates/kernel": (rows, columns), "gates/bias": (columns,)}
    arrays.fit("weights", weights, shapes | {"candidate/kernel": (rows, units), "candidate/bias": (units,)})
    joined = [np.concatenate([weights[f"gates/{name}"], weights[f"candidate/{name}"]], -1) for name in ("kernel", "bias")]
    kernel, bias = (layout.order(array, "rzg", "zrg") for array in joined)
    params = {"kernel": kernel[:-units], "recurrent_kernel": kernel[-units:], "bias": bias}
    return layout.rnn("GRU", units, params, reset_after=False, **options)


def _gates(weights: Weights) -> tuple[int, int, int]:
    """Return the rows, the columns and the number of units of the kernel of a GRU's two gates."""
    rows, columns = arrays.matrix("weights", weights, "gates/kernel", "(features + units, 2·units)").shape
    units, remainder = divmod(columns, 2)
    if remainder or rows <= units:
        raise ValueError(
            f"weights['gates/kernel'] must be (features + units, 2·units), got {rows, columns}: pass that of a GRUCell"
        )
    return rows, columns, units


def _cudnn_gru(weights: Weights, _: float, options: dict[str, Any]) -> Part:
    """Convert a CudnnCompatibleGRUCell, whose candidate has a kernel and a bias for each of x and h."""
    rows, columns, units = _gates(weights)
    features, weights = rows - units, _drop_cudnn_biases(weights, "gates/bias")
    shapes: dict[str, tuple[int, ...]] = {"gates/kernel": (rows, columns), "gates/bias": (columns,)}
    sizes = dict(zip(_PROJECTED, ((features, units), (units,), (units, units), (units,)), strict=True))
    arrays.fit("weights", weights, shapes | sizes)
    # The candidate is tanh(x K + b + r ⊙ (h U + d)). The product with r contains d, so d cannot be added to b.
    x_kernel, x_bias, h_kernel, h_bias = (weights[name] for name in _PROJECTED)
    gates = weights["gates/kernel"]
    joined = [np.concatenate([gates[:features], x_kernel], 1), np.concatenate([gates[features:], h_kernel], 1)]
    joined.append(np.concatenate([weights["gates/bias"], x_bias]))
    kernel, recurrent_kernel, bias = (layout.order(array, "rzg", "zrg") for array in joined)
    params = {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias, "recurrent_bias": h_bias}
    return layout.rnn("GRU", units, params, reset_after=True, **options)


def _cudnn_lstm(weights: Weights, forget_bias: float, options: dict[str, Any]) -> Part:
    return _lstm(_drop_cudnn_biases(weights, "bias"), forget_bias, options)


def _drop_cudnn_biases(weights: Weights, name: str) -> Weights:
    """Return the weights without CuDNN's two biases, after a check that the bias `name` is their sum."""
    terms = [weights[term] for term in _CUDNN_BIASES if term in weights]
    total = weights.get(name)
    if terms and (total is None or len(terms) != 2 or any(term.shape != total.shape for term in terms)):
        raise ValueError(f"weights has CuDNN's biases that do not fit its {name!r}: pass the weights of one cell")
    # The file's sum of the two terms has one rounding, in the dtype of the file. The tolerance is relative to the terms and not
    # to the sum, which is much smaller where they cancel.
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
    "layer_norm_basic_lstm_cell": CellClass(_layer_norm_lstm, (*_PLAIN, *_NORMS), 1.0, fixed=False),
    **dict.fromkeys(("gru_cell", "gru_block_cell"), CellClass(_gru, _GRU)),
    "cudnn_compatible_lstm_cell": CellClass(_cudnn_lstm, (*_PLAIN, *_CUDNN_BIASES)),
    "cudnn_compatible_gru_cell": CellClass(_cudnn_gru, ("gates/kernel", "gates/bias", *_PROJECTED, *_CUDNN_BIASES)),
}
