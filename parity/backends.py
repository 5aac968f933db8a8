"""Switches a layer to another backend."""

from dataclasses import replace
from typing import Any


def on(backend: str, layer: Any) -> Any:
    """Return a copy of `layer` in which every inner RNN uses `backend`."""
    if hasattr(layer, "layers"):
        return replace(layer, layers=tuple(on(backend, inner) for inner in layer.layers))
    if hasattr(layer, "layer"):
        return replace(layer, layer=on(backend, layer.layer))
    return replace(layer, backend=backend)
