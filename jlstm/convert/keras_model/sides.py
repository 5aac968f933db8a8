"""The directions of a recurrent layer and the cells of each, as a Keras model's description gives them."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jlstm.convert.keras_model import options as keras_options
from jlstm.convert.keras_model.options import CELLS, KINDS, Cell, UnsupportedError, Version, quoted

_OURS = ("keras", "tf_keras", "tensorflow")  # where Keras's own classes come from; old files do not tell
RECURRENT = re.compile(r"lstm|gru|rnn|recurrent", re.IGNORECASE)


class Side(NamedTuple):
    """One direction of a layer: names that its weights may be under, and its cells, the lowest first."""

    names: tuple[str, ...]
    cells: tuple[Cell, ...]


def numbered(class_name: str, used: dict[str, int]) -> str:
    """Return the name that Keras gives a layer: its class in snake case, with _1, _2, … from the second on."""
    plain = re.sub(r"\W+", "", class_name)
    plain = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", plain)).lower()
    used[plain] = used.get(plain, -1) + 1
    return f"{plain}_{used[plain]}" if used[plain] else plain


def directions(entry: Mapping[str, Any], version: Version) -> tuple[tuple[Side, ...], str | None]:
    """A layer's directions and how they are merged; none if it is no recurrent layer.

    Raises:
        UnsupportedError: it is one that is not converted.
    """
    class_name, config = entry["class_name"], entry["config"]
    if class_name == "Bidirectional":
        _native(entry)
        return _bidirectional(config, version)
    if class_name in KINDS or class_name == "RNN":
        return (Side((), _cells(entry, version)),), "concat"
    if class_name == "TimeDistributed" and RECURRENT.search(config["layer"]["class_name"]):
        raise UnsupportedError(f"it is TimeDistributed around {quoted(config['layer']['class_name'])}: take it apart")
    return (), "concat"


def _native(entry: Mapping[str, Any]) -> None:
    """Require a class of Keras's own: others may have the same name."""
    module, registered = entry.get("module"), entry.get("registered_name")
    name = entry["class_name"]
    if module is not None and str(module).split(".")[0] not in _OURS:
        raise UnsupportedError(f"it is {quoted(name)} of the module {quoted(module)}, not Keras's {name}")
    if registered not in (None, name) or (registered is not None and module is None):
        raise UnsupportedError(f"it is {quoted(name)} registered as {quoted(registered)}, not Keras's {name}")


def _cells(entry: Mapping[str, Any], version: Version) -> tuple[Cell, ...]:
    """Return the cells of a layer in one direction, the lowest first."""
    class_name, config = entry["class_name"], entry["config"]
    _native(entry)
    if version.major == 1:
        raise UnsupportedError("it was saved by Keras 1, which has other arrays and options: save it again with Keras 2")
    if class_name in KINDS:
        return (keras_options.cell(KINDS[class_name], config, config, version, cudnn=class_name.startswith("CuDNN")),)
    if class_name != "RNN":
        raise UnsupportedError(f"it is Bidirectional around {quoted(class_name)}, which is not a recurrent layer of Keras")
    keras_options.only(config, keras_options.LOOP | {"cell"})
    outer = config["cell"]
    entries = [outer]
    if outer["class_name"] == "StackedRNNCells":
        _native(outer)
        keras_options.only(outer["config"], keras_options.STACKED)
        entries = outer["config"]["cells"]
    used: dict[str, int] = {}
    cells = []
    for inner in entries:
        _native(inner)
        if inner["class_name"] not in CELLS:
            raise UnsupportedError(f"it has cells of class {quoted(inner['class_name'])}, which is not read")
        made = keras_options.cell(CELLS[inner["class_name"]], inner["config"], config, version)
        cells.append(made._replace(number=numbered(inner["class_name"], used)))
    if not cells:
        raise UnsupportedError("it has no cells")
    return tuple(cells)


def _bidirectional(config: Mapping[str, Any], version: Version) -> tuple[tuple[Side, ...], str | None]:
    layer, other = config["layer"], config.get("backward_layer")
    keras_options.only(config, keras_options.WRAPPER)
    forward, merge = _cells(layer, version), config["merge_mode"]
    name = str(layer["config"].get("name", ""))
    here, back = (name, f"forward_{name}"), (f"backward_{name}", f"backward_{name.removeprefix('forward_')}")
    if other is None:
        backward = tuple(cell._replace(options=_flipped(cell.options)) for cell in forward)
        return (Side(here, forward), Side(back, backward)), merge
    backward = _cells(other, version)
    named = str(other["config"].get("name", ""))
    for k, (ahead, behind) in enumerate(zip(forward, backward, strict=False)):
        _alike(ahead, behind, f" of cell {k}" if len(forward) > 1 else "")
    if len(forward) != len(backward):
        raise UnsupportedError(f"its backward_layer has {len(backward)} cells and its layer {len(forward)}: take it apart")
    return (Side(here, forward), Side((named, f"backward_{named}"), backward)), merge


def _flipped(options: Mapping[str, Any]) -> dict[str, Any]:
    return {**options, "reverse": not options["reverse"]}


def _alike(forward: Cell, backward: Cell, place: str) -> None:
    """Require that the backward layer is the layer's mirror image, the only one that our Bidirectional has."""
    sides = [{"class": cell.kind, "units": cell.units, "use_bias": cell.use_bias, **cell.options} for cell in (forward, backward)]
    sides[0]["reverse"] = not sides[0]["reverse"]
    for option, value in sides[0].items():
        if sides[1].get(option) != value:
            shown = f"{option}{place}={quoted(sides[1].get(option))}, expected {quoted(value)}"
            raise UnsupportedError(f"its backward_layer is not the mirror image of its layer, it has {shown}: take it apart")
