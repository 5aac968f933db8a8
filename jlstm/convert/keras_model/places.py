"""Search for the arrays of each recurrent cell in Keras's HDF5 files. `legacy` handles the old layout.

The result lists every array in a layer's group. Arrays that are not the kernel, recurrent kernel or bias of a cell are `extra`.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from jlstm.convert.hdf5 import Content
from jlstm.convert.keras_model.arrays import ROLES

Cells = dict[str, dict[str, str]]  # {cell: {role: name of the array}}, with the roles "kernel", "recurrent_kernel" and "bias"

# Names of arrays in a layer's group: the direction, the cell in StackedRNNCells, and the position in the cell's variables.
_WITHIN = re.compile(r"(?:(forward_layer|backward_layer)/)?cell(?:/cells/([^/]+))?/vars/(\d+)")
# The empty group stands for the cell, so that both patterns have the same groups.
_CUDNN = re.compile(r"(?:(forward_layer|backward_layer)/)?()vars/(\d+)")
_BASE = re.compile(r"(.*?)/cell(?:/cells/[^/]+)?/vars/\d+")
_CUDNN_BASE = re.compile(r"(.*?/cu_dnn(?:lstm|gru)(?:_\d+)?|.*?/bidirectional(?:_\d+)?/(?:forward|backward)_layer)/vars/\d+")
# Keras 1 has one array for each gate, such as "lstm_1_U_i".
_KERAS_1 = re.compile(r"(.*)_[UW]_[ifcozrh]")


class Place(NamedTuple):
    """The arrays of a layer.

    Attributes:
        sides: the cells by name, for one or two directions.
        extra: the names of other arrays in the layer's group.
        obstacle: why the arrays cannot be assigned to cells, as a clause after "it"; "" if they can.
        directions: the number of directions according to the names of the group and its parts; 0 if unknown.
    """

    sides: list[Cells]
    extra: list[str]
    obstacle: str = ""
    directions: int = 0


def number(name: str) -> tuple[str, int]:
    """Split a name into base and number: "lstm_10" is ("lstm", 10), "lstm" is ("lstm", 0)."""
    match = re.fullmatch(r"(.*?)(?:_(\d{1,9}))?", name, re.DOTALL)
    return (name, 0) if match is None else (match[1], int(match[2] or 0))


def is_cudnn(content: Content, base: str) -> bool:
    """Return whether a layer's arrays are in its own group and not in that of a cell, as in Keras 2's layers for cuDNN."""
    return f"{base}/vars/0" in content.datasets or f"{base}/forward_layer/vars/0" in content.datasets


def numbered(content: Content, base: str, *, cudnn: bool) -> Place:
    """Return the arrays of a layer in a new file.

    Args:
        content: the file.
        base: the layer's group.
        cudnn: whether the layer's arrays are in its own group.
    """
    sides: dict[str, Cells] = {}
    extra = []
    for name in content.names_below(base):
        match = (_CUDNN if cudnn else _WITHIN).fullmatch(name.removeprefix(base).removeprefix("/"))
        if match is None:
            if not _is_generator(content, name):
                extra.append(name)
            continue
        side, cell, position = match.groups()
        # Variables are numbered in the order of ROLES. A later number, as of a layer normalization, stays as it is, and is extra.
        role = ROLES[int(position)] if len(position) == 1 and int(position) < len(ROLES) else position
        sides.setdefault(side or "", {}).setdefault(cell or "", {})[role] = name
    extra += [name for cells in sides.values() for roles in cells.values() for role, name in roles.items() if role not in ROLES]
    ordered = [sides[side] for side in ("", "forward_layer", "backward_layer") if side in sides]
    return Place(ordered, sorted(set(extra)), directions=0 if not sides else 1 if "" in sides else 2)


def _is_generator(content: Content, name: str) -> bool:
    """Return whether an array is the state of a random number generator, which dropout uses."""
    return content.datasets[name].dtype is None and "generator" in name


def numbered_bases(content: Content) -> list[str]:
    """Return the groups of layers with cells in a weights-only new file, sorted by number."""
    bases: dict[str, None] = {}
    for name in content.datasets:
        match = _BASE.fullmatch(f"/{name}") or _CUDNN_BASE.fullmatch(f"/{name}")
        if match is not None and match[1]:
            bases[match[1].removeprefix("/")] = None
    # The patterns find each direction of a Bidirectional. They are replaced by the group of the Bidirectional itself.
    sides = {base.rpartition("/")[0] for base in bases if base.rpartition("/")[2] in ("forward_layer", "backward_layer")}
    wrappers = {base for base in sides if base and _is_bidirectional(base)}
    layer_bases = [base for base in bases if base.rpartition("/")[0] not in wrappers] + sorted(wrappers)
    return sorted(layer_bases, key=lambda base: [number(component) for component in base.split("/")])


def _is_bidirectional(base: str) -> bool:
    """Return whether a group with two directions is a Bidirectional.

    In a list of layers, the name of a group states its class. Elsewhere, it is the name of an attribute.
    """
    container, _, last = base.rpartition("/")
    return container.rpartition("/")[2] != "layers" or number(last)[0] == "bidirectional"


def groups(names: Iterable[str]) -> Cells:
    """Return the arrays of an old file by group and role."""
    arrays: Cells = {}
    for name in names:
        group, _, role = name.rpartition("/")
        roles, role = arrays.setdefault(group, {}), role.removesuffix(":0")
        roles[name if role in roles else role] = name  # a group with "kernel" and "kernel:0" has one array too many
    return arrays


def is_cell(roles: Iterable[str]) -> bool:
    """Return whether the arrays of a group in an old file are those of a recurrent cell."""
    return "recurrent_kernel" in roles


def recurrent_groups(content: Content) -> dict[str, list[str]]:
    """Return the groups whose arrays look like a recurrent cell by name or by shape, with the arrays' names."""
    recurrent_arrays: dict[str, list[str]] = {}
    for group, roles in groups(content.datasets).items():
        # New files number the arrays, so only their shapes tell. Two square matrices would match a plain RNN, but may as well be
        # those of other layers, so only kernels of 3 or 4 gates count.
        kernel, recurrent = (content.datasets.get(roles.get(role, "")) for role in ("0", "1"))
        gated = False
        if kernel is not None and recurrent is not None and len(kernel.shape) == len(recurrent.shape) >= 2:
            units, columns = recurrent.shape[-2:]
            gated = kernel.shape[-1] == columns and units > 0 and columns in (3 * units, 4 * units)
        if is_cell(roles) or gated or any(_KERAS_1.fullmatch(role) for role in roles):
            recurrent_arrays[group] = list(roles.values())
    return recurrent_arrays
