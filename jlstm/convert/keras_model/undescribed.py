"""Conversion of weights-only Keras files. The names and shapes of the arrays determine the layers."""

from functools import partial
from typing import Any, NamedTuple

from jlstm.convert.keras_model import arrays, legacy, places
from jlstm.convert.keras_model.defaults import Defaults
from jlstm.convert.keras_model.options import UnsupportedError, quoted
from jlstm.convert.keras_model.places import Cells, Place
from jlstm.convert.keras_model.result import LayerAndParams, Result, require_kernels, require_whole


class _Group(NamedTuple):
    """A layer in the file.

    Attributes:
        base: the name of the layer's group.
        name: the layer's short name.
        place: the layer's arrays.
    """

    base: str
    name: str
    place: Place


def convert(result: Result, options: dict[str, Any]) -> None:
    """Convert the recurrent layers that the names of the arrays tell.

    Args:
        result: the layers are added to it.
        options: options from the caller, for all layers that have them.

    Raises:
        ValueError: the weights contradict their names, or an option does not fit.
    """
    defaults = Defaults(result.content, options)
    groups = _numbered_groups(result) if result.content.numbered else _legacy_groups(result)
    names = [group.name for group in groups]
    for group in groups:
        for side in group.place.sides:
            result.used.update(array for roles in side.values() for array in roles.values())
        # All arrays below the group, so that a layer that is skipped for additional arrays is not reported a second time.
        result.used.update(result.content.names_below(group.base))
        name = group.base if names.count(group.name) > 1 else group.name
        result.convert(name, partial(_convert_layer, result, group, name, defaults))
    result.assumed = defaults.sentences()
    result.in_network_order = _are_ordered([group.base for group in groups], numbered=result.content.numbered)
    if result.in_network_order and len(groups) > 1:
        order = "the layers run in the order in which Keras lists them, as those of a Sequential or functional model do"
        result.assumed += (order,)


def _numbered_groups(result: Result) -> list[_Group]:
    """Return the recurrent layers of a new file, sorted by number."""
    content, groups = result.content, []
    for base in places.numbered_bases(content):
        place = places.numbered(content, base, cudnn=places.is_cudnn(content, base))
        groups.append(_Group(base, content.stored_name(base) or base, place))
    return groups


def _legacy_groups(result: Result) -> list[_Group]:
    """Return the recurrent layers of an old file, in the order of its list of layers."""
    content, groups = result.content, []
    layers = content.string_list("", "layer_names") or []
    for layer in dict.fromkeys([*layers, *(name.split("/")[0] for name in content.datasets)]):
        bases = list(legacy.layers(result.weight_names(layer)))
        for base, place in bases:
            # Keras repeats a layer's name inside its group: "lstm/lstm/lstm_cell".
            alone = len(bases) == 1 and base.endswith(f"/{layer}")
            groups.append(_Group(base, layer if alone else base.partition("/")[2] or base, place))
    return groups


def _convert_layer(result: Result, group: _Group, name: str, defaults: Defaults) -> LayerAndParams:
    """Convert a layer whose kind and directions only the names and shapes of its arrays state.

    Raises:
        UnsupportedError: these do not determine what the layer computes.
    """
    base, _, place = group
    if place.obstacle:
        raise UnsupportedError(f"it {place.obstacle}")
    kind = None
    if result.content.numbered:
        kind = defaults.kind_of_class(base)
        _require_no_wrapper(result, base)
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


def _require_no_wrapper(result: Result, base: str) -> None:
    """Refuse a layer inside a wrapper that has arrays. They may change the layer's weights, as in a weight normalization.

    Raises:
        UnsupportedError: the wrapper has arrays.
    """
    wrapper, _, attribute = base.rpartition("/")
    arrays_around = result.content.names_below(f"{wrapper}/vars") if attribute == "layer" else []
    if arrays_around:
        raise UnsupportedError(f"it is inside a wrapper that has the array {arrays_around[0][-80:]!r}: take it apart")


def _by_number(cells: Cells) -> list[dict[str, str]]:
    """Return the arrays of the cells in numeric order: cell, cell_1, … cell_10.

    Raises:
        UnsupportedError: the cells have several names. Their numbers then do not tell the order.
    """
    if len({places.number(cell)[0] for cell in cells}) > 1:
        raise UnsupportedError(
            f"it has cells of several names, {quoted(', '.join(sorted(cells)))}, whose order weights alone do not tell"
        )
    return [cells[cell] for cell in sorted(cells, key=places.number)]


def _are_ordered(bases: list[str], *, numbered: bool) -> bool:
    """Return whether the layers of a weights-only file are in the order in which Keras lists them.

    Old files list layers in that order. New files number layers by class, which tells the order within one class of one model.
    """
    if len(bases) < 2:
        return True
    if not numbered:
        layers = [base.split("/")[0] for base in bases]
        return len(set(layers)) == len(layers)
    containers = {base.rpartition("/")[0] for base in bases}
    classes = {places.number(base.rpartition("/")[2])[0] for base in bases}
    return len(containers) == len(classes) == 1 and containers.pop().rpartition("/")[2] == "layers"
