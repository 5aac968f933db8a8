"""What a Keras model's JSON description says about its layers: their places in the file, and the options of recurrent ones."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jlstm.convert.keras_model import options as keras_options
from jlstm.convert.keras_model.options import CELLS, KINDS, Cell, UnsupportedError, Version, quoted

_DEPTH, _LONGEST = 64, 1024  # of models inside models, and of a layer's name with all of theirs
_OURS = ("keras", "tf_keras", "tensorflow")  # where Keras's own classes come from; old files do not tell
_RECURRENT = re.compile(r"lstm|gru|rnn|recurrent", re.IGNORECASE)


class Side(NamedTuple):
    """One direction of a layer: names that its weights may be under, and its cells, the lowest first."""

    names: tuple[str, ...]
    cells: tuple[Cell, ...]


class Described(NamedTuple):
    """A layer.

    Args:
        path: its group in new files, by numbers.
        name: its own name, after those of the models around it: "outer/inner".
        recurrent: whether its class is a recurrent one, or sounds like one.
        reason: why a recurrent layer is not converted; "" if it is.
        sides: one or two directions.
        merge: of two directions.
        spatial: the spatial sizes of its inputs, if the description tells them.
        frozen: whether some of its weights are frozen and some are not, which changes the order in which old files list them.
    """

    path: str
    name: str
    recurrent: bool
    reason: str
    sides: tuple[Side, ...] = ()
    merge: str | None = "concat"
    spatial: tuple[int, ...] | None = None
    frozen: bool = False


class Model(NamedTuple):
    """A model's layers in the order that Keras lists and runs them, and whether the description has any."""

    layers: list[Described]
    listed: bool


def described(path: Path, text: str | bytes, version: Version) -> Model:
    """Return the layers that a description names.

    Raises:
        ValueError: it is not one, or a layer's options contradict each other.
    """
    try:
        model = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} has a description that is not JSON ({type(error).__name__}): save the model again") from error
    try:
        return Model(list(_layers(model, "", "", version)), "layers" in model["config"])
    except KeyError as error:
        raise ValueError(f"{path} has a description without {error}, which Keras writes: save the model again") from error
    except (TypeError, AttributeError, IndexError) as error:
        reason = str(error)[:100]
        raise ValueError(f"{path} has a description that is not as Keras writes it ({reason}): save the model again") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _layers(model: Mapping[str, Any], path: str, name: str, version: Version) -> Iterator[Described]:
    if path.count("/") > _DEPTH:
        raise ValueError(f"its models are nested more than {_DEPTH} deep: read the inner one")
    used: dict[str, int] = {}
    for entry in model["config"].get("layers", []):
        class_name, config = entry["class_name"], entry["config"]
        below = f"{path}layers/{_numbered(class_name, used)}"
        layer_name = config["name"] if "name" in config else entry.get("name", below.rpartition("/")[2])
        full = f"{name}{layer_name}"
        if (longest := max(len(below), len(full))) > _LONGEST:
            raise ValueError(f"a layer has a name of {longest} letters with its models', expected at most {_LONGEST}: rename it")
        if "layers" in config and class_name not in KINDS:
            yield from _layers(entry, f"{below}/", f"{full}/", version)
            continue
        try:
            sides, merge = _sides(entry, version)
        except UnsupportedError as error:
            yield Described(below, full, recurrent=True, reason=str(error))
            continue
        recurrent = bool(sides) or bool(_RECURRENT.search(class_name))
        reason = "" if sides else f"it is of class {quoted(class_name)}, which is not one of Keras's recurrent layers"
        flags = {bool(inner.get("trainable", True)) for inner in _configs(config)} if sides else set()
        yield Described(below, full, recurrent, reason, sides, merge, _spatial(entry) if sides else None, len(flags) > 1)


def _numbered(class_name: str, used: dict[str, int]) -> str:
    """Keras's own numbering: the class in snake case, with _1, _2 … from the second on."""
    plain = re.sub(r"\W+", "", class_name)
    plain = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", plain)).lower()
    used[plain] = used.get(plain, -1) + 1
    return f"{plain}_{used[plain]}" if used[plain] else plain


def _sides(entry: Mapping[str, Any], version: Version) -> tuple[tuple[Side, ...], str | None]:
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
    if class_name == "TimeDistributed" and _RECURRENT.search(config["layer"]["class_name"]):
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
    """The cells of a layer in one direction, the lowest first."""
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
        cells.append(made._replace(number=_numbered(inner["class_name"], used)))
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


def _configs(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A layer's description and those of the layers and cells inside it."""
    yield config
    for inner in [config.get("layer"), config.get("backward_layer"), config.get("cell"), *(config.get("cells") or [])]:
        if isinstance(inner, Mapping):
            yield from _configs(inner["config"])


def _spatial(entry: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The sizes between time and features of the inputs that a layer was built for, where they are fixed."""
    built = entry.get("build_config") or {}
    shape = built.get("input_shape") or entry["config"].get("batch_input_shape") or entry["config"].get("batch_shape") or ()
    sizes = tuple(shape[2:-1])
    return sizes if sizes and all(isinstance(size, int) for size in sizes) else None
