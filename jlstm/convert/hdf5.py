"""Keras' HDF5 files: where the weights of recurrent cells lie, read without following links and within the file's own size."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from jlstm.convert import files
from jlstm.convert.arrays import FLOATS

ROLES = ("kernel", "recurrent_kernel", "bias")
_LEGACY = "model_weights"
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


@contextmanager
def opened(path: Path, source: BinaryIO | Path) -> Iterator[Any]:
    """Open a file, and turn what its reader complains of into one sentence.

    Raises:
        ImportError: h5py is not installed.
        ValueError: it is no whole HDF5 file.
    """
    h5py = files.needed("h5py", path)
    try:
        with h5py.File(source, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError, TypeError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(f"{path} is not a whole HDF5 file ({reason}): write or download it again") from error


def read(path: Path, source: BinaryIO | Path, size: int) -> Content:
    """Read the weights of all recurrent cells.

    Args:
        path: the file's, for messages.
        source: the HDF5 file.
        size: how many bytes it has, which all that is read may not exceed.

    Raises:
        ImportError: h5py is not installed.
        ValueError: it is no whole HDF5 file, or declares more than it holds.
    """
    with opened(path, source) as file:
        datasets: dict[str, Any] = {}
        names: dict[str, str] = {}

        def visit(name: str, item: Any) -> None:
            if hasattr(item, "shape"):
                datasets[name] = item
            elif name.endswith("/vars") and isinstance(item.attrs.get("name"), str):
                names[name.removesuffix("/vars")] = item.attrs["name"]

        file.visititems(visit)  # hard links only, each object once
        layers: dict[str, Found] = {}
        for group, members in _cells(datasets).items():
            base, direction, cell = _place(group)
            if sum(dataset.nbytes for dataset in members) > size:
                raise ValueError(f"{path} declares more numbers in {group} than it holds: write or download it again")
            weights = [_array(path, dataset) for dataset in members]
            size -= sum(array.nbytes for array in weights)
            getattr(layers.setdefault(base, Found({}, {})), direction)[cell] = weights
        config, version = file.attrs.get("model_config"), file.attrs.get("keras_version")
        return Content(layers, names, None if config is None else _text(config), "" if version is None else _text(version))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _cells(datasets: dict[str, Any]) -> dict[str, list[Any]]:
    """Groups with kernel, recurrent kernel and perhaps bias, which new files number."""
    groups: dict[str, dict[str, Any]] = {}
    for name, dataset in datasets.items():
        group, _, last = name.rpartition("/")
        role = last.removesuffix(":0")
        if "/cell/" in f"/{group}" and group.endswith("/vars") and role in ("0", "1", "2"):
            role = ROLES[int(role)]
        groups.setdefault(group, {})[role] = dataset
    return {
        group: [members[role] for role in ROLES if role in members]
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
    if len(parts) > 1 and parts[-1] == "stacked_rnn_cells":
        parts.pop()
    if len(parts) > 1 and (side := parts[-1].split("_")[0]) in Found._fields:
        direction = side
        parts.pop()
    return "/".join(parts), direction, cell


def _array(path: Path, dataset: Any) -> np.ndarray:
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{path} has {dataset.name} in another file: write it again, with all weights in one")
    half = dataset.dtype.str == "|V2" and _text(dataset.attrs.get("dtype", "")) == "bfloat16"
    if not half and dataset.dtype.name not in FLOATS:
        raise ValueError(
            f"{path} has {dataset.name} in {dataset.dtype.name}, expected {', '.join(FLOATS)}: write it in one of these"
        )
    if dataset.id.get_storage_size() < dataset.nbytes:
        raise ValueError(f"{path} has {dataset.name} compressed or not written in full: write it again, without compression")
    array = np.asarray(dataset[()])
    return array.view(jnp.bfloat16) if half else array
