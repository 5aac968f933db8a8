"""The same layer on another backend."""

from dataclasses import replace
from typing import Any


def on(backend: str, layer: Any) -> Any:
    """Return a layer whose runs of cells, however deep inside, are all by `backend`."""
    if hasattr(layer, "layers"):
        return replace(layer, layers=tuple(on(backend, one) for one in layer.layers))
    if hasattr(layer, "layer"):
        return replace(layer, layer=on(backend, layer.layer))
    return replace(layer, backend=backend)
