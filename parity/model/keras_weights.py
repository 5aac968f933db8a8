"""Keras files that hold only weights: layers rebuilt from the shapes, with the defaults of the Keras that wrote the file."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from parity.model.leftovers import Contents, inside, sort_out
from parity.model.original import Original

Cells = list[dict[str, np.ndarray]]  # the weights of every cell by role

_ROLES = {"0": "kernel", "1": "recurrent_kernel", "2": "bias"}  # as Keras 3 numbers them
_ORDER = tuple(_ROLES.values())
_KINDS = {4: "LSTM", 3: "GRU", 1: "SimpleRNN"}
# Every version of Keras calls its own function hard_sigmoid, so `framework` decides which of the two it is.
_GATES = {"hard_sigmoid": "hard_sigmoid", "hard_sigmoid_0.2": "hard_sigmoid"}


class NoLayerError(ValueError):
    """Keras has no layer with the weights of a group."""


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
    originals, scopes, incomplete_layers = {}, {}, {}
    for name in names:
        try:
            scopes[name] = _place(path, name)
            built, used = layer(framework, arrays, scopes[name], layer_options)
        except NoLayerError as error:
            incomplete_layers[name] = str(error)
            continue
        originals[name] = make(built, frozenset(used))
        if why := _undecided(version, options, type(built).__name__):
            incomplete_layers[name] = why
    assumed = [
        "the file holds weights alone: their layers' options are the defaults of "
        + (f"Keras {version}, which wrote it" if version else "Keras 2.3 and later")
        + "".join(f", {name}={value!r} was given" for name, value in options.items())
    ]
    contents = sort_out(arrays, {scopes[name]: original.arrays for name, original in originals.items()}, assumed)
    names_by_scope = {scopes[name]: name for name in originals}
    incomplete = {names_by_scope.get(scope, scope): why for scope, why in contents.incomplete.items()}
    return originals, contents._replace(incomplete=incomplete_layers | incomplete)


def layer(framework: Any, arrays: Mapping[str, np.ndarray], scope: str, options: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Build the layer whose arrays are below a path, and return it with the paths of these arrays.

    Args:
        framework: Keras 3 or tf-keras.
        arrays: all arrays of the file by path.
        scope: the path of the layer's group.
        options: options of the layer that no array shows.

    Raises:
        NoLayerError: the weights are not those of one layer, or Keras refuses an option.
    """
    forward, backward, used = _cells(arrays, scope)
    if not forward:
        raise NoLayerError(f"{scope!r} has no recurrent_kernel: compare it by hand")
    layer_classes = framework.layers
    cells = [_class_and_options(scope, cell, options) for cell in forward]
    # Keras lists weights cell by cell, forward before backward, and in each cell in the order of `_ORDER`.
    weights = [array for cell in (*forward, *backward) for array in cell.values()]
    dtype, merge = {"dtype": weights[0].dtype.name}, {"merge_mode": options["merge"]} if "merge" in options else {}
    try:
        if len(cells) > 1:
            built = layer_classes.RNN([getattr(layer_classes, f"{kind}Cell")(**values) for kind, values in cells], **dtype)
        else:
            ((kind, values),) = cells
            built = getattr(layer_classes, kind)(**values, go_backwards=bool(options.get("reverse")))
        if backward:
            built = layer_classes.Bidirectional(built, **dtype, **merge)
        built.build((None, None, len(weights[0])))
        built.set_weights(weights)
    except (ValueError, TypeError) as error:  # of Keras, such as for an activation that it does not have
        reason = str(error).strip().split("\n")[0][:120]
        raise NoLayerError(f"Keras makes no layer of the weights of {scope!r} ({reason}): compare it by hand") from error
    return built, used


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
    """Return the path of the group that holds a layer's arrays.

    Raises:
        NoLayerError: no group has the layer's name, or several groups have it.
    """
    with h5py.File(path) as file:
        groups: dict[str, h5py.Group] = {}
        file.visititems(lambda array_path, item: groups.update({array_path: item}) if isinstance(item, h5py.Group) else None)
        places = [array_path for array_path, group in groups.items() if array_path == name or _name(array_path, group) == name]
    # A group and a group inside it may have the same name: the inner one holds the arrays.
    place = max(places, key=len, default="")
    if not place or not all(inside(place, outer) for outer in places if outer != place):
        raise NoLayerError(f"{len(places)} groups of the file have the name {name!r}, expected one: compare it by hand")
    return place


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


def _kind(scope: str, weights: Mapping[str, np.ndarray]) -> str:
    """Return the class of the Keras layer that has weights of these shapes.

    Raises:
        NoLayerError: there is none.
    """
    shape = weights["recurrent_kernel"].shape
    kinds = [kind for gates, kind in _KINDS.items() if len(shape) == 2 and shape[1] == gates * shape[0]]
    if not kinds or "kernel" not in weights:
        shapes = ", ".join(f"{role} {array.shape}" for role, array in weights.items())
        classes = ", ".join(_KINDS.values())
        raise NoLayerError(f"{scope!r} has {shapes}, which are not the weights of {classes}: compare it by hand")
    return kinds[0]


def _class_and_options(scope: str, weights: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the class of the Keras layer that has the weights, and its arguments, which are also those of its cell."""
    kind, units = _kind(scope, weights), len(weights["recurrent_kernel"])
    cell_options: dict[str, Any] = {"units": units, "use_bias": "bias" in weights, "dtype": weights["kernel"].dtype.name}
    cell_options["recurrent_initializer"] = "zeros"  # QR has no bfloat16
    cell_options |= {"activation": options["activation"]} if "activation" in options else {}
    if kind != "SimpleRNN" and "recurrent_activation" in options:
        cell_options["recurrent_activation"] = _GATES.get(options["recurrent_activation"], options["recurrent_activation"])
    if kind == "GRU":
        cell_options["reset_after"] = weights["bias"].ndim == 2 if "bias" in weights else options.get("reset_after", True)
    return kind, cell_options
