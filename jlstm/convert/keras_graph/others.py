"""The layers of a Keras file that are not recurrent: what they are, their options and their arrays."""

from collections.abc import Iterator, Mapping
from typing import Any

from jlstm.convert.hdf5 import Content
from jlstm.convert.keras_graph.table import KINDS
from jlstm.convert.keras_model import config
from jlstm.convert.keras_model.described import array_names, version_of
from jlstm.convert.keras_model.places import by_group_and_role, split_number
from jlstm.convert.keras_model.result import Result
from jlstm.convert.keras_model.sides import group_name
from jlstm.convert.result import OtherLayer

# Of arrays without names, the class tells what they are; without a class, their names tell it.
_CLASSES = {group_name(class_name, {}): class_name for class_name in KINDS}
_BY_NAMES = {
    ("embeddings",): "Embedding",
    ("beta", "gamma", "moving_mean", "moving_variance"): "BatchNormalization",
    ("beta", "gamma"): "LayerNormalization",
}
_BY_AXES = {2: "Dense", 3: "Conv1D", 4: "Conv2D", 5: "Conv3D"}  # of a kernel


def other_layers(result: Result, description: str | bytes | None) -> dict[str, OtherLayer]:
    """Return the layers that are not recurrent and have arrays, by name, "outer/inner" in nested models.

    Args:
        result: the file, with its recurrent layers converted or skipped. The arrays of these are `result.used`.
        description: the configuration of the model; None for a weights-only file.

    Raises:
        ValueError: an array is damaged, or the configuration is not as Keras writes it.
    """
    entries = _described(result, description) if description is not None else _undescribed(result)
    layers = {}
    for name, class_name, options, names in entries:
        readable = [array for array in names if result.content.datasets[array].dtype is not None and array not in result.used]
        if readable:
            roles = _roles(result.content, class_name, options, readable)
            arrays = {role: result.content.array(array) for role, array in roles.items()}
            layers[name] = OtherLayer(class_name or _kind(arrays), arrays, options)
            result.used.update(readable)
    return layers


Entry = tuple[str, str, Mapping[str, Any], list[str]]


def _described(result: Result, description: str | bytes) -> Iterator[Entry]:
    """Yield the name, class, options and arrays of each layer that the configuration lists and that is not recurrent."""
    for layer in config.parse(result.path, description, version_of(result)).layers:
        if layer.name not in result.converted and layer.name not in result.skipped:
            yield layer.name, layer.class_name, layer.options, array_names(result, layer)


def _undescribed(result: Result) -> Iterator[Entry]:
    """Yield the same for each group of arrays of a weights-only file. Its options are not known."""
    for group, roles in by_group_and_role(result.content.datasets).items():
        layer_group = group.removesuffix("/vars")
        class_name = _CLASSES.get(split_number(layer_group.rpartition("/")[2])[0], "") if result.content.numbered else ""
        name = result.content.stored_name(layer_group) or layer_group
        yield name, class_name, {}, list(roles.values())


def _roles(content: Content, class_name: str, options: Mapping[str, Any], names: list[str]) -> dict[str, str]:
    """Return the names of arrays by what they are to their layer: {"kernel": "layers/dense/vars/0"}."""
    if not content.numbered:
        return {_last_part(name): name for name in names}
    inner = options.get("layer") if class_name == "TimeDistributed" else None
    if isinstance(inner, Mapping):
        class_name, options = inner.get("class_name", ""), inner.get("config", {})
    arrays = KINDS[class_name].arrays if class_name in KINDS else {}
    expected = [role for role, option in arrays.items() if not option or options.get(option, True)]
    # A layer of another class has arrays without names: the number in the file stands for the name.
    return {expected[k] if len(expected) == len(names) else _last_part(name): name for k, name in enumerate(names)}


def _last_part(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(":0")


def _kind(arrays: Mapping[str, Any]) -> str:
    """Return the class that the names and axes of arrays tell, or "" if they do not tell it."""
    roles = tuple(sorted(arrays))
    if set(roles) <= {"kernel", "bias"} and "kernel" in arrays:
        return _BY_AXES.get(arrays["kernel"].ndim, "")
    return _BY_NAMES.get(roles, "")
