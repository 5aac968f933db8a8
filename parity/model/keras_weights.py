"""Keras' files that hold weights alone: layers built anew from the shapes, with Keras' defaults for what shapes do not tell."""

from pathlib import Path
from typing import Any

import h5py
import jax.numpy as jnp
import numpy as np

Weights = list[list[np.ndarray]]  # kernel, recurrent kernel and perhaps bias of each cell

_ROLES = {"kernel:0": "0", "recurrent_kernel:0": "1", "bias:0": "2"}  # as old files have them


def layer(framework: Any, path: Path, name: str) -> Any:
    """Return the layer of a name, or of a path where the file has no names, with the weights that the HDF5 library reads.

    Args:
        framework: Keras 3 or tf-keras.
        path: the file's.
        name: as `jlstm.convert.keras.read` gives it.

    Raises:
        ValueError: the weights are not those of one layer.
    """
    with h5py.File(path) as file:
        groups: dict[str, h5py.Group] = {}
        file.visititems(lambda at, item: groups.update({at: item}) if isinstance(item, h5py.Group) else None)
        places = [at for at, group in groups.items() if at == name or _name(at, group) == name]
        forward, backward = _weights(groups[max(places, key=len)])
    made = _made(framework, forward)
    if backward:
        made = framework.layers.Bidirectional(made, dtype=forward[0][0].dtype.name)
    made.build((None, None, len(forward[0][0])))
    made.set_weights([array for cell in (*forward, *backward) for array in cell])
    return made


def _name(at: str, group: Any) -> str:
    """The layer's own, which Keras 3 writes beside its variables, or the last of its path."""
    held = group.get("vars")
    return str(at.split("/")[-1] if held is None else held.attrs.get("name", ""))


def _weights(layer: Any) -> tuple[Weights, Weights]:
    """The weights of its cells forwards and, if it has two directions, backwards."""
    cells: dict[str, dict[str, np.ndarray]] = {}

    def collect(at: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fV":  # and not a random generator's state
            group, _, role = at.rpartition("/")
            dtype = jnp.bfloat16 if item.dtype.kind == "V" else item.dtype
            cells.setdefault(group, {})[_ROLES.get(role, role)] = item[()].view(dtype)

    layer.visititems(collect)
    found: tuple[Weights, Weights] = ([], [])
    for group in sorted(cells, key=lambda group: (len(group), group)):  # cell, cell_1, … cell_10
        found[group.startswith("backward")].append([array for _, array in sorted(cells[group].items())])
    return found


def _made(framework: Any, cells: Weights) -> Any:
    """A layer of one cell, or of several."""
    of = framework.layers
    if len(cells) > 1:
        return of.RNN([_one(of, "Cell", cell) for cell in cells], dtype=cells[0][0].dtype.name)
    return _one(of, "", cells[0])


def _one(of: Any, ending: str, weights: list[np.ndarray]) -> Any:
    units, columns = weights[1].shape
    options: dict[str, Any] = {"use_bias": len(weights) > 2, "dtype": weights[1].dtype.name}
    options["recurrent_initializer"] = "zeros"  # QR has no bfloat16
    if columns == 4 * units:
        return getattr(of, f"LSTM{ending}")(units, **options)
    if options["use_bias"]:
        options["reset_after"] = weights[2].ndim == 2
    return getattr(of, f"GRU{ending}")(units, **options)
