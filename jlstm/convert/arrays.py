"""Checks of weight arrays from other frameworks. Each error message states one reason why they are not a layer's weights."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

FLOATS = ("float64", "float32", "float16", "bfloat16")


def floating(where: str, weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the weights as NumPy arrays of one floating dtype, in the machine's byte order.

    Args:
        where: what the weights are called in error messages.
        weights: arrays, or values that NumPy converts to arrays, by name.

    Raises:
        ValueError: `weights` is empty or not a dict, a value is not an array of a dtype in `FLOATS`, or the dtypes differ.
    """
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(f"{where} must be a dict of arrays by name, got {_brief(weights)}: pass all weights of one layer")
    arrays = {name: _array(f"{where}[{name!r}]", value) for name, value in weights.items()}
    dtypes = sorted({array.dtype.name for array in arrays.values()})
    if len(dtypes) > 1:
        raise ValueError(f"{where} must all have the same dtype, got {' and '.join(dtypes)}: cast them to one")
    return arrays


def weight_dicts(where: str, weights: Any, example: str) -> list[Mapping[str, Any]]:
    """Return the dicts of weights as a list; a single dict becomes a list of one.

    Raises:
        ValueError: `weights` is neither a dict nor a list of dicts, or the list is empty.
    """
    entries = [weights] if isinstance(weights, Mapping) else weights
    if not isinstance(entries, list | tuple) or not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError(f"{where} must be a dict of arrays by name, or a list of such, got {_brief(weights)}: pass {example}")
    return list(entries)


def _array(name: str, value: Any) -> np.ndarray:
    # A PyTorch tensor: NumPy's own error would not say what to do.
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
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # JAX takes no arrays of the other byte order


def matrix(where: str, arrays: Mapping[str, np.ndarray], name: str, layout: str, axes: int = 2) -> np.ndarray:
    """Return the named array, whose shape determines the shapes of the other weights.

    Args:
        where: what the weights are called in error messages.
        arrays: the weights by name.
        name: the name of the array to return.
        layout: its expected layout, for error messages, such as "(units, gates·units)".
        axes: its expected number of axes.

    Raises:
        ValueError: the array is missing, has another number of axes, or is empty.
    """
    if name not in arrays:
        present = ", ".join(map(repr, list(arrays)[:4]))
        raise ValueError(f"{where} has no {name}, expected {layout}, got {present}: pass all weights of one layer")
    if arrays[name].ndim != axes or not arrays[name].size:
        raise ValueError(f"{where}[{name!r}] must be {layout}, got shape {arrays[name].shape}: pass it in this layout")
    return arrays[name]


def kind_of(where: str, rows: int, units: int, kinds: Mapping[int, str]) -> str:
    """Return the kind of layer, such as "LSTM", that has `rows // units` gates.

    Args:
        where: what the array is called in error messages.
        rows: the size of the array's gate axis, gates·units.
        units: the number of units.
        kinds: the kind of layer for each number of gates.

    Raises:
        ValueError: `rows` is not a multiple of `units`, or no kind has this number of gates.
    """
    count, remainder = divmod(rows, units)
    if remainder or count not in kinds:
        layers = " or ".join(f"{gates}·{units} for {name}" for gates, name in kinds.items())
        raise ValueError(f"{where} must have gates of {units} units, {layers}, got {rows}: pass the weights of such a layer")
    return kinds[count]


def fit(where: str, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the arrays have exactly these names and shapes.

    Raises:
        ValueError: an array is missing, unexpected, or of another shape.
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
