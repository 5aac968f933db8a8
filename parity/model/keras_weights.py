"""Keras files that hold only weights: layers rebuilt from the shapes, with the defaults of the Keras that wrote the file."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from parity.model.leftovers import Contents, sort_out
from parity.model.original import Original

Cells = list[dict[str, np.ndarray]]  # weights of each cell by role

_ROLES = {"0": "kernel", "1": "recurrent_kernel", "2": "bias"}  # as Keras 3 numbers them
_ORDER = tuple(_ROLES.values())
_KINDS = {4: "LSTM", 3: "GRU", 1: "SimpleRNN"}
_GATES = {"hard_sigmoid": "hard_sigmoid", "hard_sigmoid_0.2": "hard_sigmoid"}  # each Keras calls its own so


def originals(
    framework: Any,
    path: Path,
    version: str,
    arrays: Mapping[str, np.ndarray],
    names: Collection[str],
    options: Mapping[str, Any],
    make: Callable[[Any, frozenset[str]], Original],
) -> tuple[dict[str, Original], Contents]:
    """Return the layers of these names, or of these paths where the file has no names, and what else the file holds.

    Args:
        framework: Keras 3 or tf-keras.
        path: the file's.
        version: the Keras that wrote it, or "" if it does not say.
        arrays: all of the file, by their paths.
        names: as `jlstm.convert.keras.read` gives them.
        options: of the layers, which no array tells.
        make: an original from a layer and the arrays that it takes.

    Raises:
        ValueError: the weights are not those of one layer.
    """
    stated = {**_defaults(version), **options}
    made, scopes, untold = {}, {}, {}
    for name in names:
        try:
            scope = _place(path, name)
            made[name], scopes[scope] = layer(framework, arrays, scope, stated)
        except (ValueError, KeyError, TypeError) as error:
            untold[name] = f"Keras makes no layer of its weights ({str(error).splitlines()[0][:120]})"
            continue
        if why := _untold(version, options, type(made[name]).__name__):
            untold[name] = why
    assumed = [
        "the file holds weights alone: their layers' options are the defaults of "
        + (f"Keras {version}, which wrote it" if version else "Keras 2.3 and later")
        + "".join(f", {name}={value!r} was given" for name, value in options.items())
    ]
    contents = sort_out(arrays, scopes, assumed)
    called = dict(zip(scopes, made, strict=True))
    incomplete = {called.get(scope, scope): why for scope, why in contents.incomplete.items()}
    originals = {name: make(made[name], frozenset(used)) for name, used in zip(made, scopes.values(), strict=True)}
    return originals, contents._replace(incomplete=untold | incomplete)


def layer(framework: Any, arrays: Mapping[str, np.ndarray], scope: str, options: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return the layer whose arrays are below a path, and the paths of these arrays.

    Raises:
        ValueError: the weights are not those of one layer.
    """
    forward, backward, used = _cells(arrays, scope)
    if not forward:
        raise ValueError(f"{scope!r} has no recurrent_kernel: compare it by hand")
    return _layer(framework, forward, backward, options), used


def _defaults(version: str) -> dict[str, Any]:
    """Return defaults that changed later: https://github.com/keras-team/keras/releases/tag/2.3.0, and TensorFlow 2's GRU."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not numbers or numbers >= (2, 4):
        return {}
    in_tensorflow = version.endswith("-tf")  # 2.2.4-tf is TensorFlow 1.13's, with the old defaults, and 2.1's, with the new ones
    gates = {"recurrent_activation": "hard_sigmoid"} if numbers < (2, 3) and not in_tensorflow else {}
    return gates | ({} if in_tensorflow else {"reset_after": False})


def _untold(version: str, options: Mapping[str, Any], kind: str) -> str:
    """Return what the version leaves open, as a sentence; "" if nothing."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if version.endswith("-tf") and numbers < (2, 3) and "recurrent_activation" not in options and kind != "SimpleRNN":
        return f"Keras {version} has two defaults of recurrent_activation: tell which, --option recurrent_activation=sigmoid"
    return ""


def _place(path: Path, name: str) -> str:
    """Return the path of a layer's group: the longest of those with its name."""
    with h5py.File(path) as file:
        groups: dict[str, h5py.Group] = {}
        file.visititems(lambda at, item: groups.update({at: item}) if isinstance(item, h5py.Group) else None)
        places = [at for at, group in groups.items() if at == name or _name(at, group) == name]
    if not places:
        raise ValueError(f"there is no group of {name!r} in the file")
    return max(places, key=len)


def _name(at: str, group: Any) -> str:
    """Return the layer's name, which Keras 3 writes beside its variables; else the last part of its path."""
    variables = group.get("vars")
    return str(at.split("/")[-1] if variables is None else variables.attrs.get("name", ""))


def _cells(arrays: Mapping[str, np.ndarray], scope: str) -> tuple[Cells, Cells, list[str]]:
    """Return the weights of the forward cells, those of the backward cells, and the paths of these arrays."""
    folders: dict[str, dict[str, str]] = {}
    for at in arrays:
        folder, _, last = at.removeprefix(f"{scope}/").rpartition("/")
        role = _ROLES.get(last, last.removesuffix(":0"))
        if at.startswith(f"{scope}/") and role in _ORDER:
            folders.setdefault(folder, {})[role] = at
    recurrent = {folder: roles for folder, roles in folders.items() if "recurrent_kernel" in roles}
    order = sorted(recurrent, key=lambda folder: (len(folder), folder))  # cell, cell_1, … cell_10
    sides: tuple[Cells, Cells] = ([], [])
    for folder in order:
        cell = {role: arrays[recurrent[folder][role]] for role in _ORDER if role in recurrent[folder]}
        sides["backward" in folder].append(cell)
    return *sides, [at for folder in order for at in recurrent[folder].values()]


def _layer(framework: Any, forward: Cells, backward: Cells, options: Mapping[str, Any]) -> Any:
    of, merge = framework.layers, {"merge_mode": options["merge"]} if "merge" in options else {}
    dtype = forward[0]["kernel"].dtype.name
    if len(forward) > 1:
        layer = of.RNN([_one(of, "Cell", cell, options) for cell in forward], dtype=dtype)
    else:
        layer = _one(of, "", forward[0], options)
    if backward:
        layer = of.Bidirectional(layer, dtype=dtype, **merge)
    layer.build((None, None, len(forward[0]["kernel"])))
    layer.set_weights([array for cell in (*forward, *backward) for array in cell.values()])
    return layer


def _one(of: Any, ending: str, weights: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> Any:
    units, columns = weights["recurrent_kernel"].shape
    kind = _KINDS[columns // units]
    layer_options: dict[str, Any] = {"use_bias": "bias" in weights, "dtype": weights["kernel"].dtype.name}
    layer_options["recurrent_initializer"] = "zeros"  # QR has no bfloat16
    layer_options |= {"activation": options["activation"]} if "activation" in options else {}
    if kind != "SimpleRNN" and "recurrent_activation" in options:
        layer_options["recurrent_activation"] = _GATES.get(options["recurrent_activation"], options["recurrent_activation"])
    if kind == "GRU":
        layer_options["reset_after"] = weights["bias"].ndim == 2 if "bias" in weights else options.get("reset_after", True)
    if options.get("reverse") and not ending:
        layer_options["go_backwards"] = True
    return getattr(of, f"{kind}{ending}")(units, **layer_options)
