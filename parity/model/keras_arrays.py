"""The arrays of a Keras file as h5py lists them, and which of them Keras has put into its layers.

Arrays are matched by their numbers, so that no rule for names is shared with the converter.
"""

import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import jax.numpy as jnp
import numpy as np

from parity.model.leftovers import Contents, listed, looks_recurrent

Arrays = Mapping[str, np.ndarray]


def read(path: Path) -> dict[str, np.ndarray]:
    """Return all floating-point arrays of a file by path, without those of an optimizer."""
    arrays: dict[str, np.ndarray] = {}

    def collect(array_path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fV" and not array_path.startswith("optimizer"):
            bits = jnp.bfloat16 if item.dtype.kind == "V" else item.dtype  # HDF5 has no name for bfloat16
            # A whole model in HDF5 has its layers in this group, a file of weights alone at the top.
            arrays[array_path.removeprefix("model_weights/")] = item[()].view(bits)

    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(collect)
    else:
        with h5py.File(path) as file:
            file.visititems(collect)
    return arrays


def loaded_paths(arrays: Arrays, variables: Iterable[Any]) -> frozenset[str]:
    """Return the paths of the arrays whose values the variables hold.

    Several arrays may be equal, such as biases of zeros. Then as many of them are returned as there are variables.
    """
    remaining = Counter(_digest(variable.numpy()) for variable in variables)
    paths = []
    for array_path, array in arrays.items():
        if remaining[digest := _digest(array)]:
            remaining[digest] -= 1
            paths.append(array_path)
    return frozenset(paths)


def sort_out(arrays: Arrays, used: Mapping[str, frozenset[str]], variables: Iterable[Any], assumed: Iterable[str]) -> Contents:
    """Sort the arrays that no compared layer uses: other layers' weights, and arrays that Keras loaded nowhere.

    Args:
        arrays: all arrays of the file.
        used: for each compared layer, the arrays that its original uses.
        variables: all variables of the model.
        assumed: as in `Contents`.
    """
    placed = loaded_paths(arrays, variables)
    # Only kernels tell a layer's folder: a bias of zeros may have been matched in another layer's folder.
    folders = {
        array_path.rsplit("/", 1)[0]: name for name, paths in used.items() for array_path in paths if arrays[array_path].ndim > 1
    }
    layers_by_lost_path = {
        array_path: [layer for folder, layer in folders.items() if array_path.startswith(f"{folder}/")]
        for array_path in arrays
        if array_path not in placed
    }
    incomplete = {
        layers[0]: f"{array_path} of {layers[0]!r} was not compared"
        for array_path, layers in layers_by_lost_path.items()
        if layers
    }
    unclaimed = [array_path for array_path, layers in layers_by_lost_path.items() if not layers]
    if recurrent := [array_path for array_path in unclaimed if looks_recurrent(array_path, used)]:
        incomplete["the file"] = f"Keras has no place for {listed(recurrent)}, which may be a recurrent layer's"
    not_compared = sorted(placed - set().union(*used.values())) + [
        array_path for array_path in unclaimed if array_path not in recurrent
    ]
    return Contents(incomplete, tuple(not_compared), tuple(assumed))


def _digest(array: np.ndarray) -> bytes:
    contiguous = np.ascontiguousarray(array)
    # Shape and dtype too: equal bytes of another shape are another array.
    return hashlib.blake2b(f"{contiguous.shape} {contiguous.dtype}".encode() + contiguous.tobytes()).digest()
