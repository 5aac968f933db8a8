"""The attributes of ONNX' LSTM and GRU nodes, and our options."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
ATTRIBUTES = (
    *("hidden_size", "direction", "activations", "activation_alpha", "activation_beta", "clip", "input_forget"),
    *("linear_before_reset", "layout"),
)


class Function(NamedTuple):
    """An activation function by ONNX' name, with the constants that it takes."""

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
    "hard_sigmoid_0.2": Function("HardSigmoid", 0.2, 0.5),  # the constants without which ONNX means the same
    "hard_sigmoid": Function("HardSigmoid", 1 / 6, 0.5),
    "linear": Function("Affine", 1.0, 0.0),
}
_DEFAULTS = {function.name.lower(): function for function in reversed(FUNCTIONS.values())}


def options(kind: str, given: Mapping[str, Any], units: int) -> dict[str, Any]:
    """Return our options for a node's attributes.

    Raises:
        ValueError: an attribute that is none, or that is not ours.
    """
    if unknown := sorted(map(str, given.keys() - set(ATTRIBUTES))):
        raise ValueError(f"an {kind} node has no {unknown[0][:40]!r}: it has W, R, B, P and {', '.join(ATTRIBUTES)}")
    direction = given.get("direction", "forward")
    if not isinstance(direction, str) or direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {str(direction)[:40]!r}: give one of them")
    if given.get("hidden_size", units) != units:
        raise ValueError(f"hidden_size is {given['hidden_size']} but R is for {units} units: give the one that R has")
    names = ("recurrent_activation", "activation", "output_activation")[: 3 if kind == "LSTM" else 2]
    found: dict[str, Any] = {"reverse": direction == "reverse"}
    found |= dict(zip(names, _functions(given, len(names), DIRECTIONS[direction]), strict=True))
    if kind == "GRU":
        found["reset_after"] = bool(given.get("linear_before_reset", 0))
    elif found["output_activation"] == found["activation"]:
        del found["output_activation"]
    if given.get("clip") is not None:
        if kind == "GRU":
            raise ValueError(f"our GRU has no clip, got clip={given['clip']!r}: leave it out if no sum is that large")
        found["gate_clip"] = given["clip"]
    if given.get("input_forget"):
        if kind == "GRU":
            raise ValueError("a GRU has no input_forget: leave it out")
        found["coupled"] = "f=1-i"
    return found


def _functions(given: Mapping[str, Any], count: int, directions: int) -> list[str]:
    names = given.get("activations") or [*("Sigmoid", "Tanh", "Tanh")[:count]] * directions
    if not isinstance(names, Sequence) or len(names) != count * directions or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"activations must be {count * directions} names, {count} a direction, got {str(names)[:80]}: give as many"
        )
    alphas, betas = (iter(np.atleast_1d(given.get(name, ())).tolist()) for name in ("activation_alpha", "activation_beta"))
    found = []
    for name in names:
        plain = _DEFAULTS.get(name.lower())
        alpha = None if plain is None or plain.alpha is None else next(alphas, plain.alpha)
        beta = None if plain is None or plain.beta is None else next(betas, plain.beta)
        wanted = Function("" if plain is None else plain.name, alpha, beta)
        ours = next((ours for ours, function in FUNCTIONS.items() if _same(function, wanted)), None)
        if ours is None:
            constants = f" with alpha={alpha} and beta={beta}" if plain else ""
            raise ValueError(f"we have no activation {name[:40]!r}{constants}: use one of {', '.join(FUNCTIONS)}")
        found.append(ours)
    if found[:count] != found[-count:]:
        raise ValueError("activations differ in the two directions, expected the same: convert both directions one by one")
    return found[:count]


def _same(a: Function, b: Function) -> bool:
    """Attributes are float32."""
    return a.name == b.name and all(
        x is None or (isinstance(y, float | int) and np.float32(x) == np.float32(y)) for x, y in zip(a[1:], b[1:], strict=True)
    )


def attributes(kind: str, cell: Any, direction: str) -> dict[str, Any]:
    """Return a node's attributes for our options; those that are ONNX' own defaults are left out.

    Raises:
        ValueError: an activation that ONNX does not have.
    """
    names = [cell.recurrent_activation, cell.activation, *([cell.psi] if kind == "LSTM" else [])] * DIRECTIONS[direction]
    for name in names:
        if name not in FUNCTIONS:
            raise ValueError(f"ONNX has no activation {name!r}: use one of {', '.join(FUNCTIONS)}")
    functions = [FUNCTIONS[name] for name in names]
    found: dict[str, Any] = {"hidden_size": cell.units, "direction": direction, "activations": [f.name for f in functions]}
    for which in ("alpha", "beta"):
        constants = [getattr(f, which) for f in functions if getattr(f, which) is not None]
        found |= {f"activation_{which}": constants} if constants else {}
    if kind == "GRU":
        return found | {"linear_before_reset": int(cell.reset_after)}
    clip = {} if cell.gate_clip is None else {"clip": float(np.float32(cell.gate_clip))}
    return found | clip | {"input_forget": int(cell.coupled is not None)}
