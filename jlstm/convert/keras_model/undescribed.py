"""Conversion of weights-only Keras files. The names and shapes of the arrays determine the layers."""

from functools import partial
from typing import Any, NamedTuple

from jlstm.convert.keras_model import arrays, legacy, places
from jlstm.convert.keras_model.defaults import Defaults
from jlstm.convert.keras_model.options import UnsupportedError, quoted
from jlstm.convert.keras_model.places import Cells, Place
from jlstm.convert.keras_model.result import LayerAndParams, Result, require_kernels, require_whole


class _Layer(NamedTuple):
    """A recurrent layer in the file.

    Attributes:
        group: the layer's group, "layers/lstm_1" in a numbered file and "encoder/encoder" in a legacy file.
        name: the layer's own name, or its group if the file does not state the name. Several layers may have the same name.
        place: where the layer's arrays are.
    """

    group: str
    name: str
    place: Place


def convert(result: Result, options: dict[str, Any]) -> None:
    """Convert the recurrent layers that the names of the arrays tell.

    Layers that cannot be converted are skipped: `result.skipped` gets the reason. A layer whose name is not unique is named by
    its group.

    Args:
        result: the layers are added to it.
        options: options from the caller, for all layers that have them.

    Raises:
        ValueError: the weights contradict their names, or an option does not fit.
    """
    defaults = Defaults(result.content, options)
    layers = _numbered_layers(result) if result.content.numbered else _legacy_layers(result)
    names = [layer.name for layer in layers]
    for layer in layers:
        for side in layer.place.sides:
            result.used.update(array for roles in side.values() for array in roles.values())
        # All arrays below the group, so that a layer that is skipped for additional arrays is not reported a second time.
        result.used.update(result.content.names_below(layer.group))
        name = layer.group if names.count(layer.name) > 1 else layer.name
        # An UnsupportedError is caught there and skips the layer. Other errors are raised.
        result.convert(name, partial(_convert_layer, result, layer, name, defaults))
    result.assumed = defaults.sentences()
    result.in_network_order = _are_ordered([layer.group for layer in layers], numbered=result.content.numbered)
    if result.in_network_order and len(layers) > 1:
        order = "the layers run in the order in which Keras lists them, as those of a Sequential or functional model do"
        result.assumed += (order,)


def _numbered_layers(result: Result) -> list[_Layer]:
    """Return the recurrent layers of a numbered file, sorted by class and number."""
    content, layers = result.content, []
    for group in places.recurrent_layers_by_number(content):
        place = places.in_numbered_file(content, group, cudnn=places.is_cudnn(content, group))
        layers.append(_Layer(group, content.stored_name(group) or group, place))
    return layers


def _legacy_layers(result: Result) -> list[_Layer]:
    """Return the recurrent layers of a legacy file, in the order of its attribute `layer_names`.

    Layers that this attribute does not list come last, in the order of `Content.datasets`.

    Raises:
        ValueError: the file lists an array that does not exist.
    """
    content, layers = result.content, []
    listed = content.string_list("", "layer_names") or []
    for outermost in dict.fromkeys([*listed, *(name.split("/")[0] for name in content.datasets)]):
        within = list(legacy.layers(result.weight_names(outermost)))
        for group, place in within:
            # Keras repeats a layer's name inside its group: "lstm/lstm/lstm_cell".
            alone = len(within) == 1 and group.endswith(f"/{outermost}")
            layers.append(_Layer(group, outermost if alone else group.partition("/")[2] or group, place))
    return layers


def _convert_layer(result: Result, layer: _Layer, name: str, defaults: Defaults) -> LayerAndParams:
    """Convert a layer whose kind and directions only the names and shapes of its arrays state.

    Args:
        result: reads the arrays.
        layer: the layer.
        name: the layer's unique name, for the sentences on what is assumed.
        defaults: provides the options, and records what is assumed.

    Raises:
        UnsupportedError: the names and shapes do not determine what the layer computes.
        ValueError: the arrays contradict their names, some are missing, or an option does not fit.
    """
    group, _, place = layer
    if place.obstacle:
        raise UnsupportedError(f"it {place.obstacle}")
    kind = None
    if result.content.numbered:
        kind = defaults.kind_of_class(group)
        _require_no_wrapper(result, group)
    require_whole(place, f"has the group of {place.directions or 1}", place.directions or 1, UnsupportedError)
    sides = []
    for k, cells in enumerate(place.sides):
        parts = []
        for roles in _by_number(cells):
            require_kernels(roles)
            shape = result.content.datasets[roles["recurrent_kernel"]].shape
            parts.append(result.part(roles, defaults.cell_options(name, kind, shape, roles, k)))
        sides.append(arrays.stacked(parts))
    if len(sides) == 1:
        return sides[0]
    if sides[0][0].flipped() != sides[1][0]:
        raise UnsupportedError(
            "its two directions differ in kind, size or bias, and ours are mirror images: load them one by one"
        )
    return arrays.bidirectional(sides[0], sides[1], defaults.merge(name))


def _require_no_wrapper(result: Result, group: str) -> None:
    """Refuse a layer inside a wrapper that has arrays. They may change the layer's weights, as in a weight normalization.

    Args:
        result: has the contents of the file.
        group: the layer's group in a numbered file. In a wrapper it ends in "/layer", the attribute of Keras's `Wrapper`.

    Raises:
        UnsupportedError: the wrapper has arrays.
    """
    wrapper, _, attribute = group.rpartition("/")
    arrays_around = result.content.names_below(f"{wrapper}/vars") if attribute == "layer" else []
    if arrays_around:
        raise UnsupportedError(f"it is inside a wrapper that has the array {arrays_around[0][-80:]!r}: take it apart")


def _by_number(cells: Cells) -> list[dict[str, str]]:
    """Return the arrays of the cells in numeric order: cell, cell_1, … cell_10.

    Raises:
        UnsupportedError: the cells have several names. Their numbers then do not tell the order.
    """
    if len({places.split_number(cell)[0] for cell in cells}) > 1:
        raise UnsupportedError(
            f"it has cells of several names, {quoted(', '.join(sorted(cells)))}, whose order weights alone do not tell"
        )
    return [cells[cell] for cell in sorted(cells, key=places.split_number)]


def _are_ordered(groups: list[str], *, numbered: bool) -> bool:
    """Return whether the layers of a weights-only file are in the order in which Keras lists them.

    A legacy file lists its outermost layers and models in that order, but not the layers inside a model. A numbered file numbers
    layers by class, which tells the order within one class of one model.

    Args:
        groups: the group of each layer.
        numbered: whether this is a numbered file.
    """
    if len(groups) < 2:
        return True
    if not numbered:
        outermost = [group.split("/")[0] for group in groups]
        return len(set(outermost)) == len(outermost)
    containers = {group.rpartition("/")[0] for group in groups}
    classes = {places.split_number(group.rpartition("/")[2])[0] for group in groups}
    return len(containers) == len(classes) == 1 and containers.pop().rpartition("/")[2] == "layers"
