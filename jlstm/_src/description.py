"""Write a layer as JSON and read it back. Classes and options are stored by name, so that reading executes no code."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from jlstm import attention, cells
from jlstm._src import checks
from jlstm.cell import Cell
from jlstm.cells import wrappers
from jlstm.layers import RNN, Bidirectional, Layer, Stack

_CELLS = [
    value
    for module in (cells, wrappers, attention)
    for name in module.__all__
    if isinstance(value := getattr(module, name), type)
]
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (RNN, Bidirectional, Stack, *_CELLS) if issubclass(kind, Layer | Cell)}
# The largest depth of layers, cells and lists in one another that is read from a file: without a limit, reading could exhaust
# Python's stack.
_MOST = 64


def describe(layer: Layer) -> str:
    """Return a layer's classes and options as JSON.

    Raises:
        TypeError: `layer` is not a Layer.
        ValueError: an option is a function or another value that JSON does not have, or a class is not one of jlstm.
    """
    checks.instance("layer", layer, Layer, "LSTM(units)")
    return json.dumps(_described(layer, "layer"))


def _described(value: Any, name: str) -> Any:
    """Return a layer, a cell or the value of the option `name` in terms of JSON. The errors are those of `describe`."""
    if isinstance(value, Layer | Cell):
        kind = type(value).__name__
        if KINDS.get(kind) is not type(value):
            raise ValueError(f"{name} is a {kind}, which is not of jlstm: save its params alone, and build it yourself")
        instance: Any = value  # mypy does not know that each subclass is a dataclass
        return {"kind": kind} | {
            field.name: _described(getattr(value, field.name), field.name) for field in fields(instance) if field.init
        }
    if isinstance(value, tuple | list):
        return [_described(item, name) for item in value]
    if isinstance(value, np.dtype):
        return value.name
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{name} is a {type(value).__name__}, which a file cannot hold: give it by its name, or save params alone")


def build(text: str) -> Layer:
    """Return the layer that `describe` wrote as JSON. Only classes of jlstm are created, and they check their options.

    Raises:
        ValueError: `text` is not such a description, or has classes or options that this version of jlstm does not have.
    """
    try:
        layer = _built(json.loads(text), _MOST)
    except json.JSONDecodeError as error:
        raise ValueError(f"a layer must be described in JSON, got something else ({error}): save it again") from error
    except RecursionError as error:
        raise ValueError(f"layers must be nested at most {_MOST} deep, got more: save it again") from error
    if not isinstance(layer, Layer):
        raise ValueError(f"a file must describe a layer, got {type(layer).__name__}: save it with layer=")
    return layer


def _built(value: Any, depth: int) -> Any:
    """Return what `_described` described. `depth` is how much deeper it may be. The errors are those of `build`."""
    if depth == 0:
        raise ValueError(f"layers must be nested at most {_MOST} deep, got more: save it again")
    if isinstance(value, list):
        return tuple(_built(item, depth - 1) for item in value)
    if not isinstance(value, Mapping):
        return value
    kind = KINDS.get(value["kind"]) if isinstance(value.get("kind"), str) else None
    if kind is None:
        raise ValueError(f"there is no kind {str(value.get('kind'))[:40]!r}, expected {', '.join(KINDS)}: update jlstm")
    options = {name: _built(option, depth - 1) for name, option in value.items() if name != "kind"}
    if unknown := sorted(options.keys() - {field.name for field in fields(kind) if field.init}):
        raise ValueError(f"{kind.__name__} has no option {unknown[0][:40]!r} here: update jlstm")
    try:
        return kind(**options)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{kind.__name__} cannot have the options that are described ({error}): save it again") from error
