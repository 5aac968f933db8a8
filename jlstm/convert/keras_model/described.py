"""Conversion of Keras files that contain the model's configuration. It is checked against the weights of each layer."""

from functools import partial
from typing import Any

from jlstm.convert.keras_model import arrays, config, legacy, places
from jlstm.convert.keras_model import options as keras_options
from jlstm.convert.keras_model.config import LayerConfig
from jlstm.convert.keras_model.options import Cell, UnsupportedError, Version, quoted
from jlstm.convert.keras_model.result import LayerAndParams, Result, require_whole


def convert(result: Result, description: str | bytes, spatial: Any) -> None:
    """Convert the recurrent layers that a model's configuration lists.

    Layers that cannot be converted are skipped: `result.skipped` gets the reason.

    Args:
        result: the layers are added to it.
        description: the configuration in JSON.
        spatial: the spatial sizes of a ConvLSTM's inputs, for layers whose configuration does not state them.

    Raises:
        ValueError: the file does not state a version of Keras from 1 to 3, the text is not a configuration of a model, two layers
            have the same name, or the configuration contradicts itself or the weights.
    """
    version = version_of(result)
    model = config.parse(result.path, description, version)
    result.in_network_order = model.listed
    recurrent_arrays = {name for names in places.recurrent_groups(result.content).values() for name in names}
    for layer in model.layers:
        names = array_names(result, layer)
        if layer.name in result.converted or layer.name in result.skipped:
            raise ValueError(f"{result.path} has two layers of the name {quoted(layer.name)}: rename one")
        # Only a layer that is recurrent neither by its class nor by its arrays is left out. All others are converted or skipped.
        if not layer.recurrent and recurrent_arrays.isdisjoint(names):
            continue
        if not layer.reason:
            _require_name(result, layer, version.major)
        result.used.update(names)
        # An UnsupportedError, such as that for a `layer.reason`, is caught there and skips the layer. Other errors are raised.
        result.convert(layer.name, partial(_convert_layer, result, layer, names, spatial))


def version_of(result: Result) -> Version:
    """Return the version of Keras that the file states.

    Raises:
        ValueError: it states none from 1 to 3.
    """
    stated = result.content.version
    version = keras_options.version(stated)
    # hard_sigmoid has the slope 0.2 in Keras 2 and 1/6 in Keras 3, under the same name, so the version must be known.
    if version is None:
        raise ValueError(
            f"{result.path} states keras_version {quoted(stated)}, expected one such as 2.15.0 or 3.4.1, which says what "
            "hard_sigmoid means: save the model again"
        )
    return version


def array_names(result: Result, layer: LayerConfig) -> list[str]:
    """Return the names of a layer's arrays.

    A legacy file has one group for a whole model inside the model, so the arrays of the layer are found in it by their names.

    Raises:
        ValueError: the file lists an array that does not exist.
    """
    if result.content.numbered:
        return result.content.names_below(layer.path)
    chain = layer.name.split("/")  # the first name is that of the group, and the others are within it
    weights = result.weight_names(chain[0])
    return weights if len(chain) == 1 else [name for name in weights if _is_within(name, chain)]


def _is_within(name: str, chain: list[str]) -> bool:
    """Return whether an array of a legacy file belongs to a layer in a model inside the model.

    Args:
        name: the name of the array. Behind its first group, that of the outermost model, there are some of the models around the
            layer, in order, and then the layer.
        chain: the names of the models around the layer, from the outermost, and of the layer.
    """
    groups = name.split("/")[1:]
    if chain[-1] not in groups:
        return False
    models = iter(chain[:-1])  # one iterator for all groups: each group must be behind the one before it
    return all(any(group == model for model in models) for group in groups[: groups.index(chain[-1])])


def _require_name(result: Result, layer: LayerConfig, major: int) -> None:
    """Check that the layer's group in a numbered file is that of a layer of this name, if the file states the name.

    Keras 3 states it. Without this check, layers that were numbered in another order would get the weights of each other.

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

    Args:
        result: reads the arrays.
        layer: the configuration of the layer.
        names: the names of all arrays of the layer.
        spatial: the spatial sizes that the caller passed for a ConvLSTM, or None.

    Raises:
        UnsupportedError: the layer cannot be converted.
        ValueError: the arrays contradict the configuration.
    """
    if layer.reason:
        raise UnsupportedError(layer.reason)
    if result.content.numbered:
        place = places.in_numbered_file(result.content, layer.path, cudnn=layer.sides[0].cells[0].cudnn)
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

    A numbered file names the group of a cell by class and number, "lstm_cell_1", and a legacy file by the cell's own name. If
    neither fits, the groups are in the order in which Keras lists them.

    Raises:
        ValueError: there are more or fewer groups than cells.
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
    """Return the options of a cell. A ConvLSTM also needs the spatial sizes of its inputs, from the file or the caller.

    Args:
        cell: the configuration of the cell.
        spatial: the sizes from the caller, or None.
        described: the sizes from the file, which take precedence, or None.

    Raises:
        UnsupportedError: neither states the sizes.
    """
    if cell.kind != "ConvLSTM":
        return cell.options
    if described is None and spatial is None:
        raise UnsupportedError(
            "the file does not tell the spatial sizes of its inputs: pass them as spatial=(rows, columns), say"
        )
    return {**cell.options, "spatial": spatial if described is None else described}
