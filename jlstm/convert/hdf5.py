"""Keras' HDF5 files: where the weights of recurrent cells lie."""

import re
from mmap import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jlstm.convert import files
from jlstm.convert.arrays import FLOATS
from jlstm.convert.hdf5_format import Dataset, File

ROLES = ("kernel", "recurrent_kernel", "bias")
_LEGACY, _MOST_AXES = "model_weights", 8
_STACKED = re.compile(r"stacked_rnn_cells(_\d+)?")  # numbered where a program makes several
_NUMBERED = re.compile(r"(.*?)/cell(?:/cells/([^/]+))?/vars")


class Found(NamedTuple):
    """The cells of one layer by their names: one, or those of a stack; of one direction, or two."""

    forward: dict[str, list[np.ndarray]]
    backward: dict[str, list[np.ndarray]]


class Content(NamedTuple):
    """What a file holds: layers by their path, the names that their `vars` groups carry, and the model's description, if any."""

    layers: dict[str, Found]
    names: dict[str, str]
    config: str | bytes | None
    version: str


def read(path: Path, content: bytes | mmap) -> Content:
    """Read the weights of all recurrent cells.

    Args:
        path: the file's, for messages.
        content: of the HDF5 file.

    Raises:
        ValueError: it is no whole HDF5 file as Keras writes it, or declares more than it holds.
    """
    try:
        file = File(content)
        left, layers = len(content), dict[str, Found]()
        for group, members in _cells(file.datasets).items():
            base, direction, cell = _place(group)
            weights = []
            for name, dataset in members.items():
                left -= _checked(f"{group}/{name}", dataset, left)
                weights.append(file.array(dataset))
            getattr(layers.setdefault(base, Found({}, {})), direction)[cell] = weights
    except files.RefusalError as error:
        raise ValueError(f"{path} is not a whole HDF5 file as Keras writes it ({error}): write or download it again") from error
    root = file.attributes.get("", {})
    names = {group.removesuffix("/vars"): words["name"] for group, words in file.attributes.items() if "name" in words}
    return Content(layers, names, root.get("model_config"), root.get("keras_version", ""))


def _checked(name: str, dataset: Dataset, left: int) -> int:
    """How many bytes it takes of those that are left."""
    if dataset.obstacle:
        raise files.RefusalError(f"{name!r} is {dataset.obstacle}")
    if dataset.dtype is None:
        raise files.RefusalError(f"{name!r} is not in one of {', '.join(FLOATS)}")
    if len(dataset.shape) > _MOST_AXES or max(dataset.nbytes, *dataset.shape, 0) > left or dataset.size < dataset.nbytes:
        raise files.RefusalError(f"{name!r} declares more numbers than it holds")
    return dataset.nbytes


def _cells(datasets: dict[str, Dataset]) -> dict[str, dict[str, Dataset]]:
    """Groups with kernel, recurrent kernel and perhaps bias, which new files number."""
    groups: dict[str, dict[str, Dataset]] = {}
    for name, dataset in datasets.items():
        group, _, last = name.rpartition("/")
        role = last.removesuffix(":0")
        if "/cell/" in f"/{group}" and group.endswith("/vars") and role in ("0", "1", "2"):
            role = ROLES[int(role)]
        groups.setdefault(group, {})[role] = dataset
    return {
        group: {role: members[role] for role in ROLES if role in members}
        for group, members in groups.items()
        if "recurrent_kernel" in members and members.keys() <= set(ROLES)
    }


def _place(group: str) -> tuple[str, str, str]:
    """A layer's path, the direction and the name of the cell: of "layers/rnn/cell/vars" or "rnn/rnn/forward_x/lstm_cell"."""
    direction, numbered = "forward", _NUMBERED.fullmatch(f"/{group}")
    if numbered:
        base, cell = numbered.groups()
        for end, which in (("/forward_layer", "forward"), ("/backward_layer", "backward")):
            if base.endswith(end):
                base, direction = base.removesuffix(end), which
        return base.removeprefix("/"), direction, cell or ""
    parts = group.removeprefix(f"{_LEGACY}/").split("/")[1:] or group.split("/")
    cell = parts.pop() if len(parts) > 1 and "cell" in parts[-1] else ""
    if len(parts) > 1 and _STACKED.fullmatch(parts[-1]):
        parts.pop()
    if len(parts) > 1 and (side := parts[-1].split("_")[0]) in Found._fields:
        direction = side
        parts.pop()
    return "/".join(parts), direction, cell
