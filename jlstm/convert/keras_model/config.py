"""Parsing of a Keras model's JSON configuration: the places of its layers in the file, and the options of recurrent layers."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jlstm.convert.keras_model.options import KINDS, UnsupportedError, Version, quoted
from jlstm.convert.keras_model.sides import RECURRENT, Side, directions, group_name

# Limits on untrusted files: models inside models, and the letters of a layer's name with those of the models around it.
_MAX_DEPTH, _MAX_NAME_LENGTH = 64, 1024


class LayerConfig(NamedTuple):
    """The configuration of one layer.

    Attributes:
        path: the layer's group in a numbered file, such as "layers/lstm_1", or in a model inside the model
            "layers/functional/layers/lstm".
        name: the layer's own name, after those of the models around it: "outer/inner".
        recurrent: whether the layer's class is recurrent, or has a name like that of a recurrent class.
        reason: why a recurrent layer is skipped; "" if it is not.
        sides: the one or two directions of a recurrent layer.
        merge: how the outputs of two directions are merged.
        spatial: the spatial sizes of the inputs, or None if the configuration does not state them.
        frozen: whether some of its weights are trainable and some are not. A legacy file then lists the weights in another order.
        class_name: Keras's class.
        options: its configuration.
    """

    path: str
    name: str
    recurrent: bool
    reason: str
    sides: tuple[Side, ...] = ()
    merge: str | None = "concat"
    spatial: tuple[int, ...] | None = None
    frozen: bool = False
    class_name: str = ""
    options: Mapping[str, Any] = {}


class Model(NamedTuple):
    """A model's layers in Keras's order.

    Attributes:
        layers: the layers.
        listed: whether the configuration has a list of layers. A subclassed model has none.
    """

    layers: list[LayerConfig]
    listed: bool


def parse(path: Path, text: str | bytes, version: Version) -> Model:
    """Parse the configuration of a model. A recurrent layer that cannot be converted gets a `reason`.

    Args:
        path: the file, for messages.
        text: the configuration in JSON.
        version: the version of Keras that wrote it.

    Raises:
        ValueError: the text is not a configuration of a model as Keras writes it, the options of a layer contradict each other or
            the version, or models are nested too deeply or have too long names.
    """
    model = loaded(path, text)
    try:
        return Model(list(_layers(model, "", "", version)), "layers" in model["config"])
    except KeyError as error:
        raise ValueError(f"{path} has a description without {error}, which Keras writes: save the model again") from error
    except (TypeError, AttributeError, IndexError) as error:
        reason = str(error)[:100]
        raise ValueError(f"{path} has a description that is not as Keras writes it ({reason}): save the model again") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def loaded(path: Path, text: str | bytes) -> Any:
    """Return a configuration as the JSON that it is.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} has a description that is not JSON ({type(error).__name__}): save the model again") from error


def _layers(model: Mapping[str, Any], path: str, name: str, version: Version) -> Iterator[LayerConfig]:
    """Yield the layers of a model and, recursively, those of the models inside it.

    Args:
        model: the configuration of the model.
        path: the prefix of the groups of its layers in a numbered file, "" or "layers/functional/", say.
        name: the prefix of the names of its layers, "" or "outer/", say.
        version: the version of Keras that wrote the configuration.

    Raises:
        ValueError: as for `parse`.
        KeyError, TypeError, AttributeError or IndexError: the configuration is not as Keras writes it.
    """
    if path.count("/") > _MAX_DEPTH:
        raise ValueError(f"its models are nested more than {_MAX_DEPTH} deep: read the inner one")
    used: dict[str, int] = {}  # Keras numbers all layers of a model by class, so layers that are not recurrent count too
    for entry in model["config"].get("layers", []):
        class_name, config = entry["class_name"], entry["config"]
        below = f"{path}layers/{group_name(class_name, used)}"
        layer_name = config["name"] if "name" in config else entry.get("name", below.rpartition("/")[2])
        full = f"{name}{layer_name}"
        if (longest := max(len(below), len(full))) > _MAX_NAME_LENGTH:
            raise ValueError(
                f"a layer has a name of {longest} letters with its models', expected at most {_MAX_NAME_LENGTH}: rename it"
            )
        # A Sequential or functional model, or a subclass of them, has a list of layers whatever its class is called.
        if "layers" in config and class_name not in KINDS:
            yield from _layers(entry, f"{below}/", f"{full}/", version)
            continue
        try:
            sides, merge = directions(entry, version)
        except UnsupportedError as error:
            yield LayerConfig(below, full, recurrent=True, reason=str(error))
            continue
        # An unknown class with a name such as "MyLSTM" is listed as skipped, rather than silently left out.
        recurrent = bool(sides) or bool(RECURRENT.search(class_name))
        reason = "" if sides else f"it is of class {quoted(class_name)}, which is not one of Keras's recurrent layers"
        flags = {bool(inner.get("trainable", True)) for inner in _configs(config)} if sides else set()
        spatial = _spatial(entry) if sides else None
        yield LayerConfig(below, full, recurrent, reason, sides, merge, spatial, len(flags) > 1, class_name, config)


def _configs(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the configurations of a layer and of the layers and cells inside it."""
    yield config
    for inner in [config.get("layer"), config.get("backward_layer"), config.get("cell"), *(config.get("cells") or [])]:
        if isinstance(inner, Mapping):
            yield from _configs(inner["config"])


def _spatial(entry: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the fixed spatial sizes of the inputs for which a layer was built, or None."""
    # The shape is (batch, time, *spatial, features). Its place in the configuration depends on the version of Keras.
    built = entry.get("build_config") or {}
    shape = built.get("input_shape") or entry["config"].get("batch_input_shape") or entry["config"].get("batch_shape") or ()
    sizes = tuple(shape[2:-1])
    return sizes if sizes and all(isinstance(size, int) for size in sizes) else None
