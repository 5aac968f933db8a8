"""Search for the arrays of each recurrent cell in Keras's old HDF5 files.

These files have one group per layer, with the layer's name, and a list of the layer's weights. The result lists every array in
the group. Arrays that are not the kernel, recurrent kernel or bias of a cell are `extra`.
"""

import re
from collections.abc import Iterator

from jlstm.convert.hdf5 import Content
from jlstm.convert.keras_model.arrays import ROLES
from jlstm.convert.keras_model.config import LayerConfig
from jlstm.convert.keras_model.places import Cells, Place, groups, is_cell
from jlstm.convert.keras_model.sides import Side

_STACK = re.compile(r"stacked_rnn_cells(_\d+)?")  # numbered if a program creates several
_CELL = re.compile(r"(?:lstm|gru|simple_rnn)_cell(?:_\d+)?")
_SIDE = re.compile(r"(forward|backward)(_.*)?")


def weights_of(content: Content, layer: str) -> list[str]:
    """Return the names of a layer's arrays in an old file, in the order in which Keras lists them.

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
    """
    cells = {group: roles for group, roles in groups(weights).items() if is_cell(roles)}
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
    """Yield the path and the arrays of each recurrent layer in one group of a weights-only old file, in the order of the arrays.

    A group holds several recurrent layers if, for example, it is that of a model inside the model.
    """
    cells = {group: roles for group, roles in groups(weights).items() if is_cell(roles)}
    bases = _bases(list(cells))
    # The layers that may be directions of one Bidirectional: {parent: {"forward": paths, "backward": paths}}.
    pairs: dict[str, dict[str, list[str]]] = {}
    for base in bases:
        parent, _, last = base.rpartition("/")
        match = _SIDE.fullmatch(last)
        if match is not None and "/" in parent:
            pairs.setdefault(parent, {}).setdefault(match[1], []).append(base)
    for base, members in bases.items():
        parent = base.rpartition("/")[0]
        sides = pairs.get(parent, {})
        if not any(base in part for part in sides.values()):
            yield base, _place([members], cells, weights, base)
        elif {name: len(part) for name, part in sides.items()} == {"forward": 1, "backward": 1}:
            if base == next(iter(sides.values()))[0]:  # yield the pair once, where its first direction is
                side_cells = [bases[sides[name][0]] for name in ("forward", "backward")]
                yield parent, _place(side_cells, cells, weights, parent, directions=2)
        elif base.rpartition("/")[2] == base.split("/")[0]:  # a layer that the user named "forward…", in its own group
            yield base, _place([members], cells, weights, base)
        else:
            obstacle = "has weights named as one direction of a Bidirectional layer, and the other direction is not there"
            yield base, Place([], [], obstacle)


def _bases(cells: list[str]) -> dict[str, list[str]]:
    """Return the cells by the path of their layer: that of "rnn/rnn/stacked_rnn_cells/lstm_cell" is "rnn/rnn".

    Two cells that are not in the group of a stack are two layers.
    """
    layers: dict[str, list[str]] = {}
    alone: dict[str, list[str]] = {}
    for cell in cells:
        parts = cell.split("/")
        if len(parts) > 2 and _STACK.fullmatch(parts[-2]):
            layers.setdefault("/".join(parts[:-2]), []).append(cell)
        else:
            base = "/".join(parts[:-1]) if len(parts) > 2 and _CELL.fullmatch(parts[-1]) else cell
            alone.setdefault(base, []).append(cell)
    for base, members in alone.items():
        layers |= {base: members} if len(members) == 1 and base not in layers else {member: [member] for member in members}
    return {base: layers[base] for base in sorted(layers, key=lambda base: cells.index(layers[base][0]))}


def _place(sides: list[list[str]], cells: Cells, weights: list[str], base: str, directions: int = 0) -> Place:
    """Return the arrays of a layer, given the names of the cells of each direction."""
    cell_groups = {group for side in sides for group in side}
    extra = [name for name in weights if name.startswith(f"{base}/") and name.rpartition("/")[0] not in cell_groups]
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
