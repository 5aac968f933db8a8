"""Search for the arrays of each recurrent cell in numbered files. `legacy` does the same for legacy files.

The package docstring explains both layouts. The result lists every array in a layer's group. Arrays that are not the kernel,
recurrent kernel or bias of a cell are `extra`.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from jlstm.convert.hdf5 import Content
from jlstm.convert.keras_model.arrays import ROLES

# {cell: {role: name of the array}}. The roles are "kernel", "recurrent_kernel" and "bias". An array of another role has the
# name or the number that the file gives it.
Cells = dict[str, dict[str, str]]

# Names of arrays in a layer's group: the direction, the cell in StackedRNNCells, and the position in the cell's variables.
_WITHIN = re.compile(r"(?:(forward_layer|backward_layer)/)?cell(?:/cells/([^/]+))?/vars/(\d+)")
# A layer for cuDNN has no group for its cell. The empty parentheses match "", so that both patterns have three parts.
_CUDNN = re.compile(r"(?:(forward_layer|backward_layer)/)?()vars/(\d+)")
# Full names of arrays, of which the first part is the layer's group.
_LAYER = re.compile(r"(.*?)/cell(?:/cells/[^/]+)?/vars/\d+")
_CUDNN_LAYER = re.compile(r"(.*?/cu_dnn(?:lstm|gru)(?:_\d+)?|.*?/bidirectional(?:_\d+)?/(?:forward|backward)_layer)/vars/\d+")
# Keras 1 has one array for each gate, such as "lstm_1_U_i".
_KERAS_1 = re.compile(r"(.*)_[UW]_[ifcozrh]")


class Place(NamedTuple):
    """Where the arrays of a layer are in the file.

    Attributes:
        sides: for each of the one or two directions, its cells by name. The name is the last part of the cell's group, such as
            "lstm_cell_1"; in a numbered file it is "" for the only cell of a layer.
        extra: the names of other arrays in the layer's group.
        obstacle: why the arrays cannot be assigned to cells, as a clause after "it"; "" if they can.
        directions: the number of directions according to the names of the group and its parts; 0 if unknown.
    """

    sides: list[Cells]
    extra: list[str]
    obstacle: str = ""
    directions: int = 0


def split_number(name: str) -> tuple[str, int]:
    """Split a name into text and number: "lstm_10" is ("lstm", 10).

    "lstm" is ("lstm", 0), since Keras gives the first of several layers no number.
    """
    match = re.fullmatch(r"(.*?)(?:_(\d{1,9}))?", name, re.DOTALL)
    return (name, 0) if match is None else (match[1], int(match[2] or 0))


def is_cudnn(content: Content, layer_group: str) -> bool:
    """Return whether a layer of a numbered file is a CuDNNLSTM or CuDNNGRU of Keras 2, or a Bidirectional of one.

    Its arrays are then in its own group, "layers/cu_dnnlstm/vars/0", and not in that of a cell, "layers/lstm/cell/vars/0".
    """
    return f"{layer_group}/vars/0" in content.datasets or f"{layer_group}/forward_layer/vars/0" in content.datasets


def in_numbered_file(content: Content, layer_group: str, *, cudnn: bool) -> Place:
    """Return where the arrays of a layer are in a numbered file.

    Args:
        content: the file.
        layer_group: the layer's group, such as "layers/lstm_1".
        cudnn: whether the layer's arrays are in its own group, as `is_cudnn` tells.
    """
    sides: dict[str, Cells] = {}
    extra = []
    for name in content.names_below(layer_group):
        match = (_CUDNN if cudnn else _WITHIN).fullmatch(name.removeprefix(layer_group).removeprefix("/"))
        if match is None:
            if not is_generator(content, name):
                extra.append(name)
            continue
        side, cell, position = match.groups()
        # Variables are numbered in the order of ROLES. A later number, as of a layer normalization, stays as it is, and is extra.
        role = ROLES[int(position)] if len(position) == 1 and int(position) < len(ROLES) else position
        sides.setdefault(side or "", {}).setdefault(cell or "", {})[role] = name
    extra += [name for cells in sides.values() for roles in cells.values() for role, name in roles.items() if role not in ROLES]
    ordered = [sides[side] for side in ("", "forward_layer", "backward_layer") if side in sides]
    return Place(ordered, sorted(set(extra)), directions=0 if not sides else 1 if "" in sides else 2)


def is_generator(content: Content, name: str) -> bool:
    """Return whether an array is the state of a random number generator, which dropout uses."""
    return content.datasets[name].dtype is None and "generator" in name


def recurrent_layers_by_number(content: Content) -> list[str]:
    """Return the groups of the recurrent layers of a numbered file, such as "layers/lstm_1", found by the names of arrays.

    A Bidirectional is one layer. The groups are sorted part by part: by text, then by number, where no number counts as 0. So
    "layers/lstm" comes before "layers/lstm_2" and that before "layers/lstm_10", and all GRUs come before all LSTMs. Groups that
    tie, such as the attributes `lstm` and `lstm_0` of a user's class, keep the order of `content.datasets`.

    An array of a cell without any group around it, "cell/vars/0", belongs to no layer. `Result.layers` lists such a cell as
    skipped.
    """
    matched_groups: dict[str, None] = {}  # an ordered set
    for name in content.datasets:
        match = _LAYER.fullmatch(f"/{name}") or _CUDNN_LAYER.fullmatch(f"/{name}")
        if match is not None and match[1]:
            matched_groups[match[1].removeprefix("/")] = None
    # The patterns find each direction of a Bidirectional. They are replaced by the group of the Bidirectional itself.
    around = {
        group.rpartition("/")[0] for group in matched_groups if group.rpartition("/")[2] in ("forward_layer", "backward_layer")
    }
    bidirectional = {group for group in around if group and _is_bidirectional(group)}
    layer_groups = [group for group in matched_groups if group.rpartition("/")[0] not in bidirectional] + sorted(bidirectional)
    return sorted(layer_groups, key=lambda group: [split_number(part) for part in group.split("/")])


def _is_bidirectional(group: str) -> bool:
    """Return whether a group that has a "forward_layer" or a "backward_layer" is that of a Bidirectional.

    In "layers/bidirectional_1", which is in a list of layers, the name states the class. Elsewhere it is the name of an attribute
    of the user's class, so that any name may be that of a Bidirectional.
    """
    container, _, last = group.rpartition("/")
    return container.rpartition("/")[2] != "layers" or split_number(last)[0] == "bidirectional"


def by_group_and_role(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Sort the names of arrays, {group: {role: name of the array}}.

    In a legacy file, "encoder/encoder/lstm_cell/kernel:0" has the group "encoder/encoder/lstm_cell" and the role "kernel". In a
    numbered file, "layers/lstm/cell/vars/0" has the group "layers/lstm/cell/vars" and, instead of a role, the number "0".
    """
    arrays: dict[str, dict[str, str]] = {}
    for name in names:
        group, _, role = name.rpartition("/")
        roles, role = arrays.setdefault(group, {}), role.removesuffix(":0")
        roles[name if role in roles else role] = name  # a group with "kernel" and "kernel:0" has one array too many
    return arrays


def is_cell(roles: Iterable[str]) -> bool:
    """Return whether the arrays of a group in a legacy file are those of a recurrent cell."""
    return "recurrent_kernel" in roles


def recurrent_groups(content: Content) -> dict[str, list[str]]:
    """Return the groups, in either layout, whose arrays look like those of a recurrent cell, with the names of the arrays.

    These are groups with the names that Keras 1, 2 or 3 gives to the arrays of a cell or, in a numbered file, with the shapes of
    the kernels of 3 or 4 gates. The search is wider than that for layers which can be converted: it finds what must be reported.
    """
    recurrent_arrays: dict[str, list[str]] = {}
    for group, roles in by_group_and_role(content.datasets).items():
        # In a numbered file the arrays have no names, so only their shapes tell. Two square matrices would match a plain RNN, but
        # may as well be those of other layers, so only kernels of 3 or 4 gates count.
        kernel, recurrent = (content.datasets.get(roles.get(role, "")) for role in ("0", "1"))
        gated = False
        if kernel is not None and recurrent is not None and len(kernel.shape) == len(recurrent.shape) >= 2:
            units, columns = recurrent.shape[-2:]
            gated = kernel.shape[-1] == columns and units > 0 and columns in (3 * units, 4 * units)
        if is_cell(roles) or gated or any(_KERAS_1.fullmatch(role) for role in roles):
            recurrent_arrays[group] = list(roles.values())
    return recurrent_arrays
