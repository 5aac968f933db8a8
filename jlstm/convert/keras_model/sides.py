"""Parsing of the directions of a recurrent layer, and of the cells of each direction, in the configuration of a Keras model."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jlstm.convert.keras_model import options as keras_options
from jlstm.convert.keras_model.options import CELLS, KINDS, Cell, UnsupportedError, Version, quoted

# Packages of Keras's own classes. The configuration in an `.h5` file does not state the package of a class.
_KERAS_PACKAGES = ("keras", "tf_keras", "tensorflow")
RECURRENT = re.compile(r"lstm|gru|rnn|recurrent", re.IGNORECASE)


class Side(NamedTuple):
    """One direction of a layer.

    Attributes:
        names: the names of groups that may hold its weights in a legacy file, such as "forward_lstm". There are none for a layer
            of one direction.
        cells: its cells, the lowest first.
    """

    names: tuple[str, ...]
    cells: tuple[Cell, ...]


def group_name(class_name: str, used: dict[str, int]) -> str:
    """Return the name that Keras gives to a group in a numbered file: the class in snake case, with _1, _2, … from the second on.

    The second LSTM of a model is "lstm_1". Keras numbers the layers of each model, and the cells of each StackedRNNCells, apart.

    Args:
        class_name: the class of the layer or cell, such as "LSTM".
        used: the numbers used so far in this model or StackedRNNCells: by class in snake case the last number, which is 0 for the
            first layer. Pass an empty dict for the first layer, and the same dict for the others. It is updated in place.
    """
    # Keras's `to_snake_case`. It makes "cu_dnnlstm" of CuDNNLSTM, for example.
    plain = re.sub(r"\W+", "", class_name)
    plain = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", plain)).lower()
    used[plain] = used.get(plain, -1) + 1
    return f"{plain}_{used[plain]}" if used[plain] else plain


def directions(entry: Mapping[str, Any], version: Version) -> tuple[tuple[Side, ...], str | None]:
    """Parse the configuration of a layer.

    Args:
        entry: the layer's entry in the model's list of layers, with "class_name" and "config".
        version: the version of Keras that wrote it.

    Returns:
        One or two directions, and how two directions are merged. There are no directions if the layer is not recurrent.

    Raises:
        UnsupportedError: the layer is recurrent and cannot be converted.
        ValueError: its options contradict each other or the version.
        KeyError, TypeError or AttributeError: the configuration is not as Keras writes it.
    """
    class_name, config = entry["class_name"], entry["config"]
    if class_name == "Bidirectional":
        require_builtin(entry)
        return _bidirectional(config, version)
    if class_name in KINDS or class_name == "RNN":
        return (Side((), _cells(entry, version)),), "concat"
    if class_name == "TimeDistributed" and RECURRENT.search(config["layer"]["class_name"]):
        raise UnsupportedError(f"it is TimeDistributed around {quoted(config['layer']['class_name'])}: take it apart")
    return (), "concat"


def require_builtin(entry: Mapping[str, Any]) -> None:
    """Check that a class is one of Keras's own. A custom class may have the same name and compute something else.

    Raises:
        UnsupportedError: it is a custom class.
    """
    module, registered = entry.get("module"), entry.get("registered_name")
    name = entry["class_name"]
    if module is not None and str(module).split(".")[0] not in _KERAS_PACKAGES:
        raise UnsupportedError(f"it is {quoted(name)} of the module {quoted(module)}, not Keras's {name}")
    if registered not in (None, name) or (registered is not None and module is None):
        raise UnsupportedError(f"it is {quoted(name)} registered as {quoted(registered)}, not Keras's {name}")


def _cells(entry: Mapping[str, Any], version: Version) -> tuple[Cell, ...]:
    """Return the cells of a layer in one direction, the lowest first.

    Raises:
        UnsupportedError: the layer cannot be converted.
        ValueError: as for `directions`.
    """
    class_name, config = entry["class_name"], entry["config"]
    require_builtin(entry)
    if version.major == 1:
        raise UnsupportedError("it was saved by Keras 1, which has other arrays and options: save it again with Keras 2")
    if class_name in KINDS:
        return (keras_options.cell(KINDS[class_name], config, config, version, cudnn=class_name.startswith("CuDNN")),)
    if class_name != "RNN":
        raise UnsupportedError(f"it is Bidirectional around {quoted(class_name)}, which is not a recurrent layer of Keras")
    keras_options.require_known(config, keras_options.LOOP | {"cell"})
    outer = config["cell"]
    entries = [outer]
    if outer["class_name"] == "StackedRNNCells":
        require_builtin(outer)
        keras_options.require_known(outer["config"], keras_options.STACKED)
        entries = outer["config"]["cells"]
    used: dict[str, int] = {}  # cells are numbered by class within their layer
    cells = []
    for inner in entries:
        require_builtin(inner)
        if inner["class_name"] not in CELLS:
            raise UnsupportedError(f"it has cells of class {quoted(inner['class_name'])}, which is not read")
        cell = keras_options.cell(CELLS[inner["class_name"]], inner["config"], config, version)
        cells.append(cell._replace(group=group_name(inner["class_name"], used)))
    if not cells:
        raise UnsupportedError("it has no cells")
    return tuple(cells)


def _bidirectional(config: Mapping[str, Any], version: Version) -> tuple[tuple[Side, ...], str | None]:
    """Parse the configuration of a Bidirectional. Its backward layer is the mirror image of `layer` unless it is stated.

    Raises:
        UnsupportedError: the layer cannot be converted, or its backward layer is not the mirror image.
        ValueError: as for `directions`.
    """
    layer, backward_layer = config["layer"], config.get("backward_layer")
    keras_options.require_known(config, keras_options.WRAPPER)
    forward, merge = _cells(layer, version), config["merge_mode"]
    name = str(layer["config"].get("name", ""))
    # Keras renames the layers to "forward_lstm" and "backward_lstm". The configuration may hold the name from before or after.
    forward_names = (name, f"forward_{name}")
    backward_names = (f"backward_{name}", f"backward_{name.removeprefix('forward_')}")
    if backward_layer is None:
        backward = tuple(cell._replace(options=_flipped(cell.options)) for cell in forward)
        return (Side(forward_names, forward), Side(backward_names, backward)), merge
    backward = _cells(backward_layer, version)
    backward_name = str(backward_layer["config"].get("name", ""))
    for k, (forward_cell, backward_cell) in enumerate(zip(forward, backward, strict=False)):
        _require_mirrored(forward_cell, backward_cell, f" of cell {k}" if len(forward) > 1 else "")
    if len(forward) != len(backward):
        raise UnsupportedError(f"its backward_layer has {len(backward)} cells and its layer {len(forward)}: take it apart")
    return (Side(forward_names, forward), Side((backward_name, f"backward_{backward_name}"), backward)), merge


def _flipped(options: Mapping[str, Any]) -> dict[str, Any]:
    return {**options, "reverse": not options["reverse"]}


def _require_mirrored(forward: Cell, backward: Cell, place: str) -> None:
    """Check that two cells differ only in their direction, as a Bidirectional of jlstm requires.

    Args:
        forward: a cell of the layer.
        backward: the cell at the same position of the backward layer.
        place: which cell of a stack it is, for the message.

    Raises:
        UnsupportedError: they differ in anything else.
    """
    sides = [{"class": cell.kind, "units": cell.units, "use_bias": cell.use_bias, **cell.options} for cell in (forward, backward)]
    sides[0]["reverse"] = not sides[0]["reverse"]
    for option, value in sides[0].items():
        if sides[1].get(option) != value:
            shown = f"{option}{place}={quoted(sides[1].get(option))}, expected {quoted(value)}"
            raise UnsupportedError(f"its backward_layer is not the mirror image of its layer, it has {shown}: take it apart")
