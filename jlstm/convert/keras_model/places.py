"""Where the weights of recurrent layers lie in Keras's HDF5 files: the arrays of each cell, by role.

Nothing is dropped: an array in a layer's group that is not the kernel, recurrent kernel or bias of a cell is listed as `extra`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jlstm.convert.hdf5 import Content
from jlstm.convert.keras_model.arrays import ROLES
from jlstm.convert.keras_model.config import Described, Side

Cells = dict[str, dict[str, str]]  # by the cell's name: the names of its arrays by role

_WITHIN = re.compile(r"(?:(forward_layer|backward_layer)/)?cell(?:/cells/([^/]+))?/vars/(\d+)")
_CUDNN = re.compile(r"(?:(forward_layer|backward_layer)/)?()vars/(\d+)")
_BASE = re.compile(r"(.*?)/cell(?:/cells/[^/]+)?/vars/\d+")
_CUDNN_BASE = re.compile(r"(.*?/cu_dnn(?:lstm|gru)(?:_\d+)?|.*?/bidirectional(?:_\d+)?/(?:forward|backward)_layer)/vars/\d+")
_STACK = re.compile(r"stacked_rnn_cells(_\d+)?")  # numbered where a program makes several
_CELL = re.compile(r"(?:lstm|gru|simple_rnn)_cell(?:_\d+)?")
_SIDE = re.compile(r"(forward|backward)(_.*)?")
_KERAS_1 = re.compile(r"(.*)_[UW]_[ifcozrh]")


class Place(NamedTuple):
    """The arrays of a layer.

    Args:
        sides: its cells by name, for one direction or two.
        extra: other arrays in its group.
        obstacle: why it cannot be told what the arrays are; "" if it can.
        directions: how many directions the group is made for, by its name or those of its parts; 0 if it is not told.
    """

    sides: list[Cells]
    extra: list[str]
    obstacle: str = ""
    directions: int = 0


def number(name: str) -> tuple[str, int]:
    """A name without its number, and the number: "lstm_10" is ("lstm", 10), "lstm" is ("lstm", 0)."""
    match = re.fullmatch(r"(.*?)(?:_(\d{1,9}))?", name, re.DOTALL)
    return (name, 0) if match is None else (match[1], int(match[2] or 0))


def is_cudnn(content: Content, base: str) -> bool:
    """Whether a layer's group holds arrays itself and not in a cell, as those of Keras 2's layers for cuDNN do."""
    return f"{base}/vars/0" in content.datasets or f"{base}/forward_layer/vars/0" in content.datasets


def numbered(content: Content, base: str, *, cudnn: bool) -> Place:
    """The arrays below a layer's group in a new file."""
    sides: dict[str, Cells] = {}
    extra = []
    for name in content.under(base):
        match = (_CUDNN if cudnn else _WITHIN).fullmatch(name.removeprefix(base).removeprefix("/"))
        if match is None:
            if not _is_generator(content, name):
                extra.append(name)
            continue
        side, cell, position = match.groups()
        role = ROLES[int(position)] if len(position) == 1 and int(position) < len(ROLES) else position
        sides.setdefault(side or "", {}).setdefault(cell or "", {})[role] = name
    extra += [name for cells in sides.values() for roles in cells.values() for role, name in roles.items() if role not in ROLES]
    ordered = [sides[side] for side in ("", "forward_layer", "backward_layer") if side in sides]
    return Place(ordered, sorted(set(extra)), directions=0 if not sides else 1 if "" in sides else 2)


def _is_generator(content: Content, name: str) -> bool:
    """Whether an array is the state of a generator of random numbers, which dropout uses."""
    return content.datasets[name].dtype is None and "generator" in name


def numbered_bases(content: Content) -> list[str]:
    """The groups of layers with cells in a new file without a description, sorted by number."""
    bases: dict[str, None] = {}
    for name in content.datasets:
        match = _BASE.fullmatch(f"/{name}") or _CUDNN_BASE.fullmatch(f"/{name}")
        if match is not None and match[1]:
            bases[match[1].removeprefix("/")] = None
    sides = {base.rpartition("/")[0] for base in bases if base.rpartition("/")[2] in ("forward_layer", "backward_layer")}
    wrappers = {base for base in sides if base and _is_bidirectional(base)}
    kept = [base for base in bases if base.rpartition("/")[0] not in wrappers] + sorted(wrappers)
    return sorted(kept, key=lambda base: [number(component) for component in base.split("/")])


def _is_bidirectional(base: str) -> bool:
    """In a list of layers a group has its class's name; elsewhere it has an attribute's."""
    container, _, last = base.rpartition("/")
    return container.rpartition("/")[2] != "layers" or number(last)[0] == "bidirectional"


def legacy_weights(content: Content, layer: str) -> list[str]:
    """The arrays of a layer in an old file, in the order in which Keras lists them.

    Raises:
        ValueError: an array is listed that is not there.
    """
    listed = content.listed(layer, "weight_names")
    held = content.under(layer)
    if listed is None:
        return held
    names = [f"{layer}/{name}" for name in listed]
    missing = [name for name in names if name not in content.datasets]
    if missing:
        raise ValueError(f"it lists the weight {missing[0][-80:]!r}, which is not there: write or download it again")
    return list(dict.fromkeys([*names, *held]))


def groups(names: Iterable[str]) -> Cells:
    """Arrays of old files by their group, and by role."""
    arrays: Cells = {}
    for name in names:
        group, _, role = name.rpartition("/")
        arrays.setdefault(group, {})[role.removesuffix(":0")] = name
    return arrays


def is_cell(roles: Iterable[str]) -> bool:
    """Whether the arrays of a group in an old file are those of a cell."""
    return "recurrent_kernel" in roles


def legacy_described(weights: list[str], layer: Described) -> Place:
    """The arrays of a layer that a description names, by their names or in the order of Keras's list."""
    cells = {group: roles for group, roles in groups(weights).items() if is_cell(roles)}
    extra = [name for name in weights if name.rpartition("/")[0] not in cells]
    extra += [name for roles in cells.values() for role, name in roles.items() if role not in ROLES]
    count, sides = len(layer.sides[0].cells), len(layer.sides)
    if len(cells) != count * sides:
        directions = 2 if sides == 2 else 1
        return Place([{}] * len(cells), extra, f"has {len(cells)} cells, and is described with {count * sides}", directions)
    chosen = [[group for group in cells if _named(group, side)] for side in layer.sides]
    if sides == 1 or any(len(part) != count for part in chosen) or set(chosen[0]) & set(chosen[1]):
        if layer.frozen and len(cells) > 1 and not _told(layer):
            return Place([], extra, "has weights that are partly frozen, so that their order is not told")
        order = list(cells)
        chosen = [order[k * count : (k + 1) * count] for k in range(sides)]
    return Place([{group.rpartition("/")[2]: cells[group] for group in part} for part in chosen], extra, "", sides)


def _told(layer: Described) -> bool:
    """Whether the names of cells tell which is which."""
    return len(layer.sides) == 1 and len({cell.name for cell in layer.sides[0].cells}) == len(layer.sides[0].cells)


def _named(group: str, side: Side) -> bool:
    return any(part in side.names for part in group.split("/")[1:])


def legacy_bases(weights: list[str]) -> Iterator[tuple[str, Place]]:
    """The layers among the arrays of a group in an old file without a description, in the order of the arrays."""
    cells = {group: roles for group, roles in groups(weights).items() if is_cell(roles)}
    bases = _bases(list(cells))
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
            if base == next(iter(sides.values()))[0]:
                both = [bases[sides[name][0]] for name in ("forward", "backward")]
                yield parent, _place(both, cells, weights, parent)._replace(directions=2)
        elif base.rpartition("/")[2] == base.split("/")[0]:
            yield base, _place([members], cells, weights, base)
        else:
            obstacle = "its weights are named as one direction of a Bidirectional layer, and the other direction is not there"
            yield base, Place([], [], obstacle)


def _bases(cells: list[str]) -> dict[str, list[str]]:
    """Cells by the path of their layer: of "rnn/rnn/stacked_rnn_cells/lstm_cell" it is "rnn/rnn".

    Two cells without the group of a stack are two layers.
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


def _place(sides: list[list[str]], cells: Cells, weights: list[str], base: str) -> Place:
    taken = {group for side in sides for group in side}
    extra = [name for name in weights if name.startswith(f"{base}/") and name.rpartition("/")[0] not in taken]
    extra += [name for group in taken for role, name in cells[group].items() if role not in ROLES]
    return Place([{group.rpartition("/")[2]: cells[group] for group in side} for side in sides], extra)


def recurrent_groups(content: Content) -> dict[str, list[str]]:
    """Groups whose arrays look like those of a recurrent cell, by name or by shape, with their arrays."""
    recurrent_arrays: dict[str, list[str]] = {}
    for group, roles in groups(content.datasets).items():
        kernel, recurrent = (content.datasets.get(roles.get(role, "")) for role in ("0", "1"))
        gated = False
        if kernel is not None and recurrent is not None and len(kernel.shape) == len(recurrent.shape) >= 2:
            units, columns = recurrent.shape[-2:]
            gated = kernel.shape[-1] == columns and units > 0 and columns in (3 * units, 4 * units)
        if is_cell(roles) or gated or any(_KERAS_1.fullmatch(role) for role in roles):
            recurrent_arrays[group] = list(roles.values())
    return recurrent_arrays
