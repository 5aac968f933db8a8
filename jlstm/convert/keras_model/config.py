"""Parsing of a Keras model's JSON configuration: the places of its layers in the file, and the options of recurrent layers."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jlstm.convert.keras_model.options import KINDS, UnsupportedError, Version, quoted
from jlstm.convert.keras_model.sides import RECURRENT, Side, directions, numbered

_DEPTH, _LONGEST = 64, 1024  # of models inside models, and of a layer's name with all of theirs


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
        below = f"{path}layers/{numbered(class_name, used)}"
        layer_name = config["name"] if "name" in config else entry.get("name", below.rpartition("/")[2])
        full = f"{name}{layer_name}"
        if (longest := max(len(below), len(full))) > _LONGEST:
            raise ValueError(f"a layer has a name of {longest} letters with its models', expected at most {_LONGEST}: rename it")
        if "layers" in config and class_name not in KINDS:
            yield from _layers(entry, f"{below}/", f"{full}/", version)
            continue
        try:
            sides, merge = directions(entry, version)
        except UnsupportedError as error:
            yield Described(below, full, recurrent=True, reason=str(error))
            continue
        recurrent = bool(sides) or bool(RECURRENT.search(class_name))
        reason = "" if sides else f"it is of class {quoted(class_name)}, which is not one of Keras's recurrent layers"
        flags = {bool(inner.get("trainable", True)) for inner in _configs(config)} if sides else set()
        yield Described(below, full, recurrent, reason, sides, merge, _spatial(entry) if sides else None, len(flags) > 1)


def _configs(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the configurations of a layer and of the layers and cells inside it."""
    yield config
    for inner in [config.get("layer"), config.get("backward_layer"), config.get("cell"), *(config.get("cells") or [])]:
        if isinstance(inner, Mapping):
            yield from _configs(inner["config"])


def _spatial(entry: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the fixed spatial sizes of the inputs for which a layer was built, or None."""
    built = entry.get("build_config") or {}
    shape = built.get("input_shape") or entry["config"].get("batch_input_shape") or entry["config"].get("batch_shape") or ()
    sizes = tuple(shape[2:-1])
    return sizes if sizes and all(isinstance(size, int) for size in sizes) else None
