"""Checks of arrays that come from elsewhere: one sentence for each way in which they cannot be a layer's weights."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

FLOATS = ("float64", "float32", "float16", "bfloat16")


def floating(where: str, weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return NumPy arrays of real numbers, all of one dtype.

    Raises:
        ValueError: there are none, one is no such array, or they differ in dtype.
    """
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(f"{where} must be a dict of arrays by name, got {_brief(weights)}: pass all weights of one layer")
    arrays = {name: _array(f"{where}[{name!r}]", value) for name, value in weights.items()}
    dtypes = sorted({array.dtype.name for array in arrays.values()})
    if len(dtypes) > 1:
        raise ValueError(f"{where} must all have the same dtype, got {' and '.join(dtypes)}: cast them to one")
    return arrays


def several(where: str, weights: Any, example: str) -> list[Mapping[str, Any]]:
    """Return one dict of weights, or several in a list, as a list.

    Raises:
        ValueError: it is neither.
    """
    found = [weights] if isinstance(weights, Mapping) else weights
    if not isinstance(found, list | tuple) or not found or not all(isinstance(one, Mapping) for one in found):
        raise ValueError(f"{where} must be a dict of arrays by name, or a list of such, got {_brief(weights)}: pass {example}")
    return list(found)


def _array(name: str, value: Any) -> np.ndarray:
    if getattr(value, "requires_grad", False) is True:
        raise ValueError(
            f"{name} must be an array, got a tensor that requires a gradient: pass module.state_dict(), or .detach() it"
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors that cannot be NumPy arrays
        reason = str(error).split("\n")[0]
        raise ValueError(f"{name} must be an array, got {_brief(value)} ({reason}): convert it with NumPy") from error
    if array.dtype.name not in FLOATS:
        raise ValueError(f"{name} must be one of {', '.join(FLOATS)}, got {array.dtype.name}: cast it to float32, say")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def matrix(where: str, arrays: Mapping[str, np.ndarray], name: str, layout: str, axes: int = 2) -> np.ndarray:
    """Return the array that tells the sizes of all others.

    Raises:
        ValueError: it is missing, has not that many axes, or one is empty.
    """
    if name not in arrays:
        known = ", ".join(map(repr, list(arrays)[:4]))
        raise ValueError(f"{where} has no {name}, expected {layout}, got {known}: pass all weights of one layer")
    if arrays[name].ndim != axes or not arrays[name].size:
        raise ValueError(f"{where}[{name!r}] must be {layout}, got shape {arrays[name].shape}: pass it in this layout")
    return arrays[name]


def gates(where: str, rows: int, units: int, known: Mapping[int, str]) -> str:
    """Return which layer it is, told by how many gates there are.

    Raises:
        ValueError: there is no such layer.
    """
    count, rest = divmod(rows, units)
    if rest or count not in known:
        layers = " or ".join(f"{gates}·{units} for {name}" for gates, name in known.items())
        raise ValueError(f"{where} must have gates of {units} units, {layers}, got {rows}: pass the weights of such a layer")
    return known[count]


def fit(where: str, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Require arrays of these names and shapes, and no others.

    Raises:
        ValueError: one is missing, too many, or of another shape.
    """
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f"{where} has no {name}, expected shape {shape}: pass all weights of one layer")
        if arrays[name].shape != shape:
            raise ValueError(
                f"{where}[{name!r}] must have shape {shape}, as the other weights have it, got {arrays[name].shape}: "
                "pass weights of one layer"
            )
    if extra := _first(arrays.keys() - shapes.keys()):
        raise ValueError(f"{where} has {extra[:80]!r}, which is not part of this layer: pass weights of one layer and no others")


def _first(names: Iterable[Any]) -> str:
    return min(map(str, names), default="")


def _brief(value: Any) -> str:
    return f"an empty {type(value).__name__}" if isinstance(value, Mapping) else type(value).__name__
