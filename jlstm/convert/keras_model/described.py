"""Conversion of Keras files that contain the model's configuration. It is checked against the weights of each layer."""

from functools import partial
from typing import Any

from jlstm.convert.keras_model import arrays, config, legacy, places
from jlstm.convert.keras_model import options as keras_options
from jlstm.convert.keras_model.config import LayerConfig
from jlstm.convert.keras_model.options import Cell, UnsupportedError, quoted
from jlstm.convert.keras_model.result import LayerAndParams, Result, require_whole


def convert(result: Result, description: str | bytes, spatial: Any) -> None:
    """Convert the recurrent layers that a model's configuration lists.

    Args:
        result: the layers are added to it.
        description: the configuration in JSON.
        spatial: the spatial sizes of a ConvLSTM's inputs, for layers whose configuration does not state them.

    Raises:
        ValueError: the configuration contradicts itself or the weights.
    """
    stated = result.content.version
    version = keras_options.version(stated)
    if version is None:
        raise ValueError(
            f"{result.path} states keras_version {quoted(stated)}, expected one such as 2.15.0 or 3.4.1, which says what "
            "hard_sigmoid means: save the model again"
        )
    model = config.parse(result.path, description, version)
    result.in_network_order = model.listed
    recurrent = {name for names in places.recurrent_groups(result.content).values() for name in names}
    for layer in model.layers:
        names = _array_names(result, layer)
        if layer.name in result.converted or layer.name in result.skipped:
            raise ValueError(f"{result.path} has two layers of the name {quoted(layer.name)}: rename one")
        # A layer of any class that holds weights of a recurrent cell is converted or skipped, and never ignored.
        if not layer.recurrent and recurrent.isdisjoint(names):
            continue
        if not layer.reason:
            _require_name(result, layer, version.major)
        result.used.update(names)
        result.convert(layer.name, partial(_convert_layer, result, layer, names, spatial))


def _array_names(result: Result, layer: LayerConfig) -> list[str]:
    """Return the names of a layer's arrays. An old file has one group for a model inside the model, with all its layers."""
    if result.content.numbered:
        return result.content.names_below(layer.path)
    chain = layer.name.split("/")  # the first name is that of the group, and the others are within it
    weights = result.weight_names(chain[0])
    return weights if len(chain) == 1 else [name for name in weights if _is_within(name, chain)]


def _is_within(name: str, chain: list[str]) -> bool:
    """Return whether an array of an old file belongs to a nested layer.

    Args:
        name: the name of the array. Its groups are the layer, and before it some of the models around the layer, in order.
        chain: the names of the models around the layer, and of the layer.
    """
    groups = name.split("/")[1:]
    if chain[-1] not in groups:
        return False
    models = iter(chain[:-1])  # one iterator for all groups: each group must be behind the one before it
    return all(any(group == model for model in models) for group in groups[: groups.index(chain[-1])])


def _require_name(result: Result, layer: LayerConfig, major: int) -> None:
    """Check that a numbered group has the name of its layer, if the file states the name, as Keras 3 does.

    Raises:
        ValueError: the group has another name, or Keras 2 wrote the configuration.
    """
    name = result.content.stored_name(layer.path) if result.content.numbered else None
    if name is None:
        return
    if major < 3:
        raise ValueError(f"{result.path} states keras_version {major}, but its weights are named as Keras 3 does: save it again")
    if name != layer.name.rpartition("/")[2]:
        raise ValueError(
            f"{result.path} describes {quoted(layer.name)}, but its weights are of {quoted(name)}: save the model again"
        )


def _convert_layer(result: Result, layer: LayerConfig, names: list[str], spatial: Any) -> LayerAndParams:
    """Convert a layer, after checks that its arrays match its configuration.

    Raises:
        UnsupportedError: the layer cannot be converted.
        ValueError: the arrays contradict the configuration.
    """
    if layer.reason:
        raise UnsupportedError(layer.reason)
    if result.content.numbered:
        place = places.numbered(result.content, layer.path, cudnn=layer.sides[0].cells[0].cudnn)
    else:
        ordered = result.content.string_list(layer.name.split("/")[0], "weight_names") is not None
        place = legacy.assign(names, layer, ordered=ordered)
    require_whole(place, f"is described with {len(layer.sides)}", len(layer.sides))
    sides = []
    for side, groups in zip(layer.sides, place.sides, strict=True):
        order = _in_order(side.cells, list(groups))
        options = [_with_spatial(cell, spatial, layer.spatial) for cell in side.cells]
        cells = zip(order, options, side.cells, strict=True)
        sides.append(arrays.stacked([result.part(groups[group], values, cell) for group, values, cell in cells]))
    return sides[0] if len(sides) == 1 else arrays.bidirectional(sides[0], sides[1], layer.merge)


def _in_order(cells: tuple[Cell, ...], groups: list[str]) -> list[str]:
    """Return the names of the groups in the order of the cells.

    New files name the group of a cell by class and number, and old files by the cell's own name. If neither fits, the groups are
    in the order in which Keras lists them.
    """
    if len(cells) == 1 and len(groups) == 1:
        return groups
    for names in ([cell.group for cell in cells], [cell.name for cell in cells]):
        if set(names) == set(groups) and len(names) == len(groups):
            return names
    if len(groups) != len(cells):
        raise ValueError(f"it has {len(groups)} cells and is described with {len(cells)}: save the model again")
    return groups


def _with_spatial(cell: Cell, spatial: Any, described: Any) -> dict[str, Any]:
    """Return the options of a cell. A ConvLSTM also needs the spatial sizes of its inputs, from the file or the caller."""
    if cell.kind != "ConvLSTM":
        return cell.options
    if described is None and spatial is None:
        raise UnsupportedError(
            "the file does not tell the spatial sizes of its inputs: pass them as spatial=(rows, columns), say"
        )
    return {**cell.options, "spatial": spatial if described is None else described}
