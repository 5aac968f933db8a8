"""Keras files that hold only weights: layers rebuilt from the shapes, with the defaults of the Keras that wrote the file."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from parity.model.leftovers import Contents, sort_out
from parity.model.original import Original

Cells = list[dict[str, np.ndarray]]  # the weights of every cell by role

_ROLES = {"0": "kernel", "1": "recurrent_kernel", "2": "bias"}  # as Keras 3 numbers them
_ORDER = tuple(_ROLES.values())
_KINDS = {4: "LSTM", 3: "GRU", 1: "SimpleRNN"}
# Every version of Keras calls its own function hard_sigmoid, so `framework` decides which of the two it is.
_GATES = {"hard_sigmoid": "hard_sigmoid", "hard_sigmoid_0.2": "hard_sigmoid"}


def originals(
    framework: Any,
    path: Path,
    version: str,
    arrays: Mapping[str, np.ndarray],
    names: Collection[str],
    options: Mapping[str, Any],
    make: Callable[[Any, frozenset[str]], Original],
) -> tuple[dict[str, Original], Contents]:
    """Build the layers that the weights belong to.

    Args:
        framework: Keras 3 or tf-keras.
        path: the file.
        version: the version of Keras that wrote the file; "" if the file does not state it.
        arrays: all arrays of the file by path.
        names: names of the layers as `jlstm.convert.keras.read` returns them: paths where the file has no names.
        options: options of the layers that no array shows.
        make: `(layer, paths of its arrays) -> Original`.

    Returns:
        The layers by name, and what else the file holds.

    Raises:
        OSError: the file cannot be read.
    """
    layer_options = {**_defaults(version), **options}
    built, scopes, incomplete_layers = {}, {}, {}
    for name in names:
        try:
            scope = _place(path, name)
            built[name], scopes[scope] = layer(framework, arrays, scope, layer_options)
        except (ValueError, KeyError, TypeError) as error:
            incomplete_layers[name] = f"Keras makes no layer of its weights ({str(error).splitlines()[0][:120]})"
            continue
        if why := _undecided(version, options, type(built[name]).__name__):
            incomplete_layers[name] = why
    assumed = [
        "the file holds weights alone: their layers' options are the defaults of "
        + (f"Keras {version}, which wrote it" if version else "Keras 2.3 and later")
        + "".join(f", {name}={value!r} was given" for name, value in options.items())
    ]
    contents = sort_out(arrays, scopes, assumed)
    names_by_scope = dict(zip(scopes, built, strict=True))
    incomplete = {names_by_scope.get(scope, scope): why for scope, why in contents.incomplete.items()}
    originals = {name: make(built[name], frozenset(used)) for name, used in zip(built, scopes.values(), strict=True)}
    return originals, contents._replace(incomplete=incomplete_layers | incomplete)


def layer(framework: Any, arrays: Mapping[str, np.ndarray], scope: str, options: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Build the layer whose arrays are below a path, and return it with the paths of these arrays.

    Args:
        framework: Keras 3 or tf-keras.
        arrays: all arrays of the file by path.
        scope: the path of the layer's group.
        options: options of the layer that no array shows.

    Raises:
        ValueError: the weights are not those of one layer.
    """
    forward, backward, used = _cells(arrays, scope)
    if not forward:
        raise ValueError(f"{scope!r} has no recurrent_kernel: compare it by hand")
    return _layer(framework, forward, backward, options), used


def _defaults(version: str) -> dict[str, Any]:
    """Return the options whose default was another in the version that wrote the file.

    Keras 2.3 changed `recurrent_activation` from hard_sigmoid to sigmoid, see
    https://github.com/keras-team/keras/releases/tag/2.3.0. TensorFlow 2 changed `reset_after` of GRU to True.
    """
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not numbers or numbers >= (2, 4):
        return {}
    in_tensorflow = version.endswith("-tf")  # 2.2.4-tf is TensorFlow 1.13's, with the old defaults, and 2.1's, with the new ones
    gates = {"recurrent_activation": "hard_sigmoid"} if numbers < (2, 3) and not in_tensorflow else {}
    return gates | ({} if in_tensorflow else {"reset_after": False})


def _undecided(version: str, options: Mapping[str, Any], kind: str) -> str:
    """Return a sentence if the version does not decide an option of the layer; else ""."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if version.endswith("-tf") and numbers < (2, 3) and "recurrent_activation" not in options and kind != "SimpleRNN":
        return f"Keras {version} has two defaults of recurrent_activation: tell which, --option recurrent_activation=sigmoid"
    return ""


def _place(path: Path, name: str) -> str:
    """Return the path of the group that holds a layer's arrays."""
    with h5py.File(path) as file:
        groups: dict[str, h5py.Group] = {}
        file.visititems(lambda array_path, item: groups.update({array_path: item}) if isinstance(item, h5py.Group) else None)
        places = [array_path for array_path, group in groups.items() if array_path == name or _name(array_path, group) == name]
    if not places:
        raise ValueError(f"there is no group of {name!r} in the file")
    return max(places, key=len)  # a group and a group inside it may have the same name: the inner one holds the arrays


def _name(array_path: str, group: Any) -> str:
    """Return the layer's name, which Keras 3 writes beside its variables; else the last part of its path."""
    variables = group.get("vars")
    return str(array_path.split("/")[-1] if variables is None else variables.attrs.get("name", ""))


def _cells(arrays: Mapping[str, np.ndarray], scope: str) -> tuple[Cells, Cells, list[str]]:
    """Return the weights of the forward cells and of the backward cells, and the paths of all these arrays."""
    folders: dict[str, dict[str, str]] = {}
    for array_path in arrays:
        folder, _, array_name = array_path.removeprefix(f"{scope}/").rpartition("/")
        role = _ROLES.get(array_name, array_name.removesuffix(":0"))
        if array_path.startswith(f"{scope}/") and role in _ORDER:
            folders.setdefault(folder, {})[role] = array_path
    recurrent = {folder: roles for folder, roles in folders.items() if "recurrent_kernel" in roles}
    order = sorted(recurrent, key=lambda folder: (len(folder), folder))  # cell, cell_1, … cell_10
    sides: tuple[Cells, Cells] = ([], [])
    for folder in order:
        cell = {role: arrays[recurrent[folder][role]] for role in _ORDER if role in recurrent[folder]}
        # False and True select the first list, forward, and the second, backward.
        sides["backward" in folder].append(cell)
    return *sides, [array_path for folder in order for array_path in recurrent[folder].values()]


def _layer(framework: Any, forward: Cells, backward: Cells, options: Mapping[str, Any]) -> Any:
    layer_classes, merge = framework.layers, {"merge_mode": options["merge"]} if "merge" in options else {}
    dtype = forward[0]["kernel"].dtype.name
    if len(forward) > 1:
        layer = layer_classes.RNN([_build(layer_classes, "Cell", cell, options) for cell in forward], dtype=dtype)
    else:
        layer = _build(layer_classes, "", forward[0], options)
    if backward:
        layer = layer_classes.Bidirectional(layer, dtype=dtype, **merge)
    layer.build((None, None, len(forward[0]["kernel"])))
    # Keras lists weights cell by cell, forward before backward, and in each cell in the order of `_ORDER`.
    layer.set_weights([array for cell in (*forward, *backward) for array in cell.values()])
    return layer


def _build(layer_classes: Any, suffix: str, weights: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> Any:
    units, columns = weights["recurrent_kernel"].shape
    kind = _KINDS[columns // units]  # the number of gates
    layer_options: dict[str, Any] = {"use_bias": "bias" in weights, "dtype": weights["kernel"].dtype.name}
    layer_options["recurrent_initializer"] = "zeros"  # QR has no bfloat16
    layer_options |= {"activation": options["activation"]} if "activation" in options else {}
    if kind != "SimpleRNN" and "recurrent_activation" in options:
        layer_options["recurrent_activation"] = _GATES.get(options["recurrent_activation"], options["recurrent_activation"])
    if kind == "GRU":
        layer_options["reset_after"] = weights["bias"].ndim == 2 if "bias" in weights else options.get("reset_after", True)
    if options.get("reverse") and not suffix:
        layer_options["go_backwards"] = True
    return getattr(layer_classes, f"{kind}{suffix}")(units, **layer_options)
