"""Writing the converted layers of a model: a file for each."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import jlstm


def save(path: str | os.PathLike[str], found: Mapping[str, tuple[jlstm.Layer, Any]]) -> dict[str, Path]:
    """Write each layer with its parameters, for `jlstm.load_layer`.

    Args:
        path: the file, if there is one layer; of several, each has its name before the ending: `out.encoder.safetensors`.
        found: layers and parameters by name.

    Returns:
        The files by the layers' names.

    Raises:
        OSError: a file cannot be written.
        ValueError: two layers would be written to the same file.
    """
    path = Path(path)
    files = dict.fromkeys(found, path)
    if len(found) > 1:
        files = {name: path.with_name(f"{path.stem}.{_plain(name)}{path.suffix}") for name in found}
    if len(set(files.values())) < len(files):
        raise ValueError(f"layers would be written to the same file, of {', '.join(found)}: choose one with --case")
    with jax.enable_x64(True):  # so that float64 stays
        for name, (layer, params) in found.items():
            jlstm.save(files[name], params, layer=layer)
    return files


def _plain(name: str) -> str:
    """The name without anything that means something in a path."""
    return re.sub(r"[^\w-]+", "_", name)
