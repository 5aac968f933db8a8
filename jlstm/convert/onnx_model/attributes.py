"""Conversion between the attributes of ONNX's LSTM, GRU and RNN nodes and the options of jlstm."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jlstm.convert.onnx_model.reasons import UnsupportedError

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
ATTRIBUTES = (
    *("hidden_size", "direction", "activations", "activation_alpha", "activation_beta", "clip", "input_forget"),
    *("linear_before_reset", "layout"),
)


class Function(NamedTuple):
    """An activation function by ONNX's name, with its constants. A constant is None if the function does not have it."""

    name: str
    alpha: float | None = None
    beta: float | None = None


FUNCTIONS = {
    "tanh": Function("Tanh"),
    "sigmoid": Function("Sigmoid"),
    "relu": Function("Relu"),
    "softsign": Function("Softsign"),
    "softplus": Function("Softplus"),
    "elu": Function("Elu", 1.0),
    "leaky_relu": Function("LeakyRelu", 0.01),
    "hard_sigmoid_0.2": Function("HardSigmoid", 0.2, 0.5),  # these are ONNX's defaults
    "hard_sigmoid": Function("HardSigmoid", 1 / 6, 0.5),
    "linear": Function("Affine", 1.0, 0.0),
}
# Functions with ONNX's default constants. In reverse, so that of two functions with one name the first stays.
_DEFAULTS = {function.name.lower(): function for function in reversed(FUNCTIONS.values())}


_OPTIONS = {
    "LSTM": ("recurrent_activation", "activation", "output_activation"),
    "GRU": ("recurrent_activation", "activation"),
    "RNN": ("activation",),
}
_PLAIN = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_OWNERS = {"input_forget": "LSTM", "linear_before_reset": "GRU"}


def options(kind: str, attributes: Mapping[str, Any], units: int) -> dict[str, Any]:
    """Convert the attributes of a node to options of a layer.

    Args:
        kind: "LSTM", "GRU" or "RNN".
        attributes: the attributes by name.
        units: the number of units, according to the weights.

    Raises:
        UnsupportedError: an attribute is unknown, or jlstm cannot do the same.
        ValueError: the attributes contradict each other or the weights, or a value is of the wrong type.
    """
    if unknown := sorted(map(str, attributes.keys() - set(ATTRIBUTES))):
        raise UnsupportedError(f"{kind} nodes have no {unknown[0][:40]!r} that is known here: leave it out if it changes nothing")
    for name, owner in _OWNERS.items():
        if not isinstance(attributes.get(name, 0), int):
            raise ValueError(f"{name} must be 0 or 1, got {str(attributes[name])[:40]}: give one of them")
        if kind != owner and attributes.get(name):
            raise UnsupportedError(f"{kind} nodes have no {name}, which only {owner} nodes have: leave it out")
    direction = attributes.get("direction", "forward")
    if not isinstance(direction, str) or direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {str(direction)[:40]!r}: give one of them")
    if attributes.get("hidden_size", units) != units:
        raise ValueError(
            f"hidden_size is {str(attributes['hidden_size'])[:40]} but R is for {units} units: give the one that R has"
        )
    result: dict[str, Any] = {"reverse": direction == "reverse"}
    result |= dict(zip(_OPTIONS[kind], _functions(kind, attributes, DIRECTIONS[direction]), strict=True))
    # Without this option, jlstm uses `activation` for both functions.
    if result.get("output_activation") == result["activation"]:
        del result["output_activation"]
    if kind == "GRU":
        result["reset_after"] = bool(attributes.get("linear_before_reset", 0))
    if attributes.get("input_forget"):
        result["coupled"] = "f=1-i"
    return result | _clip(kind, attributes.get("clip"))


def _clip(kind: str, clip: Any) -> dict[str, Any]:
    """Return the option for the attribute `clip`. In jlstm, only an LSTM has such an option.

    Raises:
        UnsupportedError: a GRU or RNN has a clip that changes the result.
        ValueError: `clip` is not a number.
    """
    if clip is None:
        return {}
    if not isinstance(clip, float | int):
        raise ValueError(f"clip must be a number, got {type(clip).__name__}: give one, or leave it out")
    if kind == "LSTM":
        return {"gate_clip": clip}
    if clip >= np.finfo(np.float32).max:
        return {}  # some exporters write the largest float32 for no clip
    raise UnsupportedError(f"our {kind} has no clip, got clip={clip}: leave it out if no sum is that large")


def _functions(kind: str, attributes: Mapping[str, Any], directions: int) -> list[str]:
    """Return the names in jlstm of the activations of one direction.

    Raises:
        UnsupportedError: jlstm does not have a function, or the two directions differ.
        ValueError: the number of names does not fit the node.
    """
    count = len(_PLAIN[kind])
    names = attributes.get("activations") or [*_PLAIN[kind]] * directions
    if kind == "RNN" and list(names) == ["Tanh", "Tanh"]:
        names = ["Tanh"] * directions  # ONNX's default has two names even for one direction
    if not isinstance(names, Sequence) or len(names) != count * directions or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"activations must be {count * directions} names, {count} a direction, got {str(names)[:80]}: give as many"
        )
    # ONNX lists the constants of all functions in sequence, without an entry for functions that have none.
    alphas, betas = (list(np.atleast_1d(attributes.get(name, ())).tolist()) for name in ("activation_alpha", "activation_beta"))
    functions = [_function(name, alphas, betas) for name in names]
    if alphas or betas:
        raise UnsupportedError(
            f"activation_alpha or activation_beta has {len(alphas) + len(betas)} numbers more than the activations take, so that "
            "it is not known which is whose: give one for each activation that takes one"
        )
    if functions[:count] != functions[-count:]:
        raise UnsupportedError("activations differ in the two directions, expected the same: convert both directions one by one")
    return functions[:count]


def _function(name: str, alphas: list[Any], betas: list[Any]) -> str:
    """Return the name in jlstm of an activation, and remove its constants from the front of `alphas` and `betas`.

    Raises:
        UnsupportedError: jlstm has no such function.
    """
    default = _DEFAULTS.get(name.lower())
    alpha = None if default is None or default.alpha is None else alphas.pop(0) if alphas else default.alpha
    beta = None if default is None or default.beta is None else betas.pop(0) if betas else default.beta
    requested = Function("" if default is None else default.name, alpha, beta)
    option = next((option for option, function in FUNCTIONS.items() if _equal_in_float32(function, requested)), None)
    if option is None:
        constants = f" with alpha={str(alpha)[:20]} and beta={str(beta)[:20]}" if default else ""
        raise UnsupportedError(f"we have no activation {name[:40]!r}{constants}: use one of {', '.join(FUNCTIONS)}")
    return option


def _equal_in_float32(a: Function, b: Function) -> bool:
    """Return whether two functions are equal when their constants are rounded to float32, the type of ONNX's attributes."""
    return a.name == b.name and all(
        x is None or (isinstance(y, float | int) and np.float32(x) == np.float32(y)) for x, y in zip(a[1:], b[1:], strict=True)
    )


def attributes(kind: str, cell: Any, direction: str) -> dict[str, Any]:
    """Convert the options of a cell to the attributes of a node. Constants that a function does not have are left out.

    Args:
        kind: "LSTM", "GRU" or "RNN".
        cell: the cell.
        direction: "forward", "reverse" or "bidirectional".

    Raises:
        ValueError: ONNX does not have an activation of the cell.
    """
    options_by_kind = {
        "LSTM": ("recurrent_activation", "activation", "output_function"),
        "GRU": ("recurrent_activation", "activation"),
    }
    names = [getattr(cell, name) for name in options_by_kind.get(kind, ("activation",))] * DIRECTIONS[direction]
    for name in names:
        if name not in FUNCTIONS:
            raise ValueError(f"ONNX has no activation {name!r}: use one of {', '.join(FUNCTIONS)}")
    functions = [FUNCTIONS[name] for name in names]
    node_attributes: dict[str, Any] = {
        "hidden_size": cell.units,
        "direction": direction,
        "activations": [f.name for f in functions],
    }
    for constant in ("alpha", "beta"):
        constants = [getattr(f, constant) for f in functions if getattr(f, constant) is not None]
        node_attributes |= {f"activation_{constant}": constants} if constants else {}
    if kind == "RNN":
        return node_attributes
    if kind == "GRU":
        return node_attributes | {"linear_before_reset": int(cell.reset_after)}
    clip = {} if cell.gate_clip is None else {"clip": float(np.float32(cell.gate_clip))}
    return node_attributes | clip | {"input_forget": int(cell.coupled is not None)}
