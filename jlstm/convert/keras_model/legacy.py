"""Search for the arrays of each recurrent cell in legacy files, which the package docstring explains.

These files have one group per layer, with the layer's name, and a list of the layer's weights. The result lists every array in
the group. Arrays that are not the kernel, recurrent kernel or bias of a cell are `extra`. Here, a cell is named by its full
group, such as "encoder/encoder/lstm_cell".
"""

import re
from collections.abc import Iterator

from jlstm.convert.hdf5 import Content
from jlstm.convert.keras_model.arrays import ROLES
from jlstm.convert.keras_model.config import LayerConfig
from jlstm.convert.keras_model.places import Cells, Place, by_group_and_role, is_cell
from jlstm.convert.keras_model.sides import Side

_STACK = re.compile(r"stacked_rnn_cells(_\d+)?")  # numbered if a program creates several
_CELL = re.compile(r"(?:lstm|gru|simple_rnn)_cell(?:_\d+)?")
_SIDE = re.compile(r"(forward|backward)(_.*)?")


def weights_of(content: Content, layer: str) -> list[str]:
    """Return the names of a layer's arrays in a legacy file, in the order in which Keras lists them.

    Without the attribute `weight_names`, they are sorted by name.

    Args:
        content: the file.
        layer: the layer's group, which is its name, such as "encoder".

    Raises:
        ValueError: a listed array does not exist.
    """
    listed = content.string_list(layer, "weight_names")
    present = content.names_below(layer)
    if listed is None:
        return present
    names = [f"{layer}/{name}" for name in listed]
    missing = [name for name in names if name not in content.datasets]
    if missing:
        raise ValueError(f"it lists the weight {missing[0][-80:]!r}, which is not there: write or download it again")
    return list(dict.fromkeys([*names, *present]))  # arrays that the list leaves out come last


def assign(weights: list[str], layer: LayerConfig, *, ordered: bool) -> Place:
    """Assign the arrays of a layer to the cells in its configuration, by name or by the order of Keras's list.

    Args:
        weights: the names of the layer's arrays.
        layer: the layer's configuration.
        ordered: whether the arrays are in the order of Keras's list.

    Returns:
        The arrays of each cell. If they cannot be assigned, the `obstacle` of the result says why.
    """
    cells = {group: roles for group, roles in by_group_and_role(weights).items() if is_cell(roles)}
    extra = [name for name in weights if name.rpartition("/")[0] not in cells]
    extra += [name for roles in cells.values() for role, name in roles.items() if role not in ROLES]
    count, sides = len(layer.sides[0].cells), len(layer.sides)
    if len(cells) != count * sides:
        directions = 2 if sides == 2 else 1
        return Place([{}] * len(cells), extra, f"has {len(cells)} cells, and is described with {count * sides}", directions)
    by_side = [[group for group in cells if _belongs_to(group, side)] for side in layer.sides]
    # The names of the two directions decide, if they divide the cells in two equal parts. Otherwise the order of the list does:
    # Keras lists the forward direction first, and the cells of a direction from the lowest to the highest.
    if sides == 1 or any(len(part) != count for part in by_side) or set(by_side[0]) & set(by_side[1]):
        if (layer.frozen or not ordered) and len(cells) > 1 and not _has_unique_cell_names(layer):
            # Keras lists trainable weights first, so the list of partly frozen cells has another order.
            reason = "is partly frozen" if ordered else "has no list weight_names"
            return Place([], extra, f"{reason}, so that the order of its cells is not told")
        order = list(cells)
        by_side = [order[k * count : (k + 1) * count] for k in range(sides)]
    return _by_cell(by_side, cells, extra, directions=sides)


def _has_unique_cell_names(layer: LayerConfig) -> bool:
    """Return whether a layer of one direction has cells of different names, so that their order is known without a list."""
    return len(layer.sides) == 1 and len({cell.name for cell in layer.sides[0].cells}) == len(layer.sides[0].cells)


def _belongs_to(group: str, side: Side) -> bool:
    """Return whether the name of a cell's group contains a name of a direction."""
    return any(part in side.names for part in group.split("/")[1:])


def layers(weights: list[str]) -> Iterator[tuple[str, Place]]:
    """Yield the recurrent layers in one of the outermost groups of a weights-only legacy file, in the order of the arrays.

    There are several, for example, in the group of a model inside the model.

    Args:
        weights: the names of all arrays in that group, as `weights_of` returns them.

    Yields:
        For each layer its inner group and its arrays. The inner group of "encoder/encoder/lstm_cell/kernel:0" is
        "encoder/encoder": Keras repeats the name of a layer. A layer without its other direction has an `obstacle`.
    """
    cells = {group: roles for group, roles in by_group_and_role(weights).items() if is_cell(roles)}
    cells_by_layer = _cells_by_layer(list(cells))
    # The layers that may be directions of one Bidirectional: {its group: {"forward": groups, "backward": groups}}.
    pairs: dict[str, dict[str, list[str]]] = {}
    for group in cells_by_layer:
        parent, _, last = group.rpartition("/")
        match = _SIDE.fullmatch(last)
        if match is not None and "/" in parent:
            pairs.setdefault(parent, {}).setdefault(match[1], []).append(group)
    for group, layer_cells in cells_by_layer.items():
        parent = group.rpartition("/")[0]
        sides = pairs.get(parent, {})
        if not any(group in part for part in sides.values()):
            yield group, _place([layer_cells], cells, weights, group)
        elif {name: len(part) for name, part in sides.items()} == {"forward": 1, "backward": 1}:
            if group == next(iter(sides.values()))[0]:  # yield the pair once, where its first direction is
                side_cells = [cells_by_layer[sides[name][0]] for name in ("forward", "backward")]
                yield parent, _place(side_cells, cells, weights, parent, directions=2)
        elif group.rpartition("/")[2] == group.split("/")[0]:  # a layer that the user named "forward…", in its own group
            yield group, _place([layer_cells], cells, weights, group)
        else:
            obstacle = "has weights named as one direction of a Bidirectional layer, and the other direction is not there"
            yield group, Place([], [], obstacle)


def _cells_by_layer(cells: list[str]) -> dict[str, list[str]]:
    """Return the cells by the group of their layer: that of "rnn/rnn/stacked_rnn_cells/lstm_cell" is "rnn/rnn".

    Two cells that are not in the group of a stack are two layers. Each is then named by the group of its cell.
    """
    layers: dict[str, list[str]] = {}
    alone: dict[str, list[str]] = {}
    for cell in cells:
        parts = cell.split("/")
        if len(parts) > 2 and _STACK.fullmatch(parts[-2]):
            layers.setdefault("/".join(parts[:-2]), []).append(cell)
        else:
            layer_group = "/".join(parts[:-1]) if len(parts) > 2 and _CELL.fullmatch(parts[-1]) else cell
            alone.setdefault(layer_group, []).append(cell)
    for group, members in alone.items():
        layers |= {group: members} if len(members) == 1 and group not in layers else {member: [member] for member in members}
    return {group: layers[group] for group in sorted(layers, key=lambda group: cells.index(layers[group][0]))}


def _place(sides: list[list[str]], cells: Cells, weights: list[str], layer_group: str, directions: int = 0) -> Place:
    """Return where the arrays of a layer are.

    Args:
        sides: the cells of each direction.
        cells: the arrays of all cells by role.
        weights: the names of all arrays, those of other layers too.
        layer_group: the layer's group. All arrays in it that are not those of a cell are `extra`.
        directions: see `Place`.
    """
    cell_groups = {group for side in sides for group in side}
    extra = [name for name in weights if name.startswith(f"{layer_group}/") and name.rpartition("/")[0] not in cell_groups]
    extra += [name for group in cell_groups for role, name in cells[group].items() if role not in ROLES]
    return _by_cell(sides, cells, extra, directions)


def _by_cell(sides: list[list[str]], cells: Cells, extra: list[str], directions: int) -> Place:
    """Return the arrays of each direction by the names of its cells, which are the last parts of the names of their groups."""
    named = [{group.rpartition("/")[2]: group for group in side} for side in sides]
    for side, groups_by_name in zip(sides, named, strict=True):
        for group in side:
            if (other := groups_by_name[group.rpartition("/")[2]]) != group:
                obstacle = f"has two cells of one name, in the groups {group[-80:]!r} and {other[-80:]!r}"
                return Place([], extra, obstacle, directions)
    return Place([{name: cells[group] for name, group in side.items()} for side in named], extra, "", directions)
