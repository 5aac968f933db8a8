"""Writes the converted layers of a model, one file per layer."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import jlstm


def save(path: str | os.PathLike[str], layers: Mapping[str, tuple[jlstm.Layer, Any]]) -> dict[str, Path]:
    """Write each layer with its parameters, for `jlstm.load_layer`.

    Args:
        path: the file. With several layers, each layer's name goes before the suffix: `out.encoder.safetensors`.
        layers: layers and parameters by name.

    Returns:
        The files by the layers' names.

    Raises:
        OSError: a file cannot be written.
        ValueError: two layers would be written to the same file.
    """
    path = Path(path)
    files = dict.fromkeys(layers, path)
    if len(layers) > 1:
        files = {name: path.with_name(f"{path.stem}.{_plain(name)}{path.suffix}") for name in layers}
    if len(set(files.values())) < len(files):
        raise ValueError(f"layers would be written to the same file, of {', '.join(layers)}: choose one with --case")
    with jax.enable_x64(True):  # so that float64 stays
        for name, (layer, params) in layers.items():
            jlstm.save(files[name], params, layer=layer)
    return files


def _plain(name: str) -> str:
    """Replace the characters of a name that have a meaning in paths."""
    return re.sub(r"[^\w-]+", "_", name)
