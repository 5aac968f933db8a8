"""The contents of Keras's HDF5 files: the arrays by name, the order in which they are listed, and the model's configuration.

There are two layouts, which `jlstm.convert.keras_model` explains. A numbered file has arrays such as
"layers/lstm_1/cell/vars/0". A legacy file has arrays such as "encoder/encoder/lstm_cell/kernel:0", and attributes that list the
layers and their arrays in order.
"""

import re
from bisect import bisect_left
from mmap import mmap
from pathlib import Path

import numpy as np

from jlstm.convert import files
from jlstm.convert.arrays import FLOATS
from jlstm.convert.hdf5_format import Dataset, File

_LEGACY = "model_weights"  # the group around all weights in the legacy file of a whole model
_MAX_AXES = 8
_NUMBERED = re.compile(r"(?:.*/)?vars/\d+")
# Only numbered files need this pattern: in legacy files the optimizer is outside "model_weights".
_OPTIMIZER = re.compile(r"optimizer/(?:.*/)?vars/\d+")


class Content:
    """The contents of one HDF5 file of Keras.

    Args:
        file: the parsed file.
        size: the size of the file in bytes. The arrays that are read may not exceed it in total.

    Attributes:
        datasets: the arrays by name, without those of an optimizer. The prefix "model_weights/" of a legacy file is removed.
        config: the model's configuration in JSON, or None if the file has none.
        version: the version of Keras that the file states, or "".
        numbered: whether this is a numbered file. Otherwise it is a legacy file.
    """

    def __init__(self, file: File, size: int) -> None:
        self._file, self._bytes_left = file, size
        # The file of a whole model has all weights in one group. Without it, their names are those of a weights-only file.
        self._prefix = f"{_LEGACY}/" if _LEGACY in file.attributes else ""
        self.datasets: dict[str, Dataset] = {
            name.removeprefix(self._prefix): dataset
            for name, dataset in file.datasets.items()
            if name.startswith(self._prefix) and not _OPTIMIZER.fullmatch(name)
        }
        self._sorted = sorted(self.datasets)
        self.config: str | bytes | None = self._string("", "model_config")
        self.version: str = self._string("", "keras_version") or ""
        self.numbered = any(_NUMBERED.fullmatch(name) for name in self.datasets)

    def _string(self, group: str, name: str) -> str | None:
        value = self._file.attributes.get(group, {}).get(name)
        return value if isinstance(value, str) else None

    def has_group(self, group: str) -> bool:
        """Return whether the file has a group of this name."""
        return group in self._file.attributes

    def stored_name(self, group: str) -> str | None:
        """Return the name that the user gave to the layer in a group of a numbered file, or None if the file does not state it.

        Keras 3 stores it beside the arrays, and Keras 2 does not.
        """
        return self._string(f"{group}/vars".removeprefix("/"), "name")

    def string_list(self, group: str, name: str) -> list[str] | None:
        """Return an attribute that is a list of strings, or None if there is none.

        Keras splits a long list over several attributes: "weight_names0", "weight_names1", …

        Args:
            group: the group that has the attribute; "" for the group around all layers.
            name: the attribute without a number, such as "weight_names".
        """
        attributes = self._file.attributes.get(f"{self._prefix}{group}".removesuffix("/"), {})
        if isinstance(words := attributes.get(name), tuple):
            return list(words)
        parts: list[tuple[str, ...]] = []
        while isinstance(words := attributes.get(f"{name}{len(parts)}"), tuple):
            parts.append(words)
        return [word for part in parts for word in part] if parts else None

    def names_below(self, group: str) -> list[str]:
        """Return the sorted names of all arrays in a group and in the groups inside it. The group "" has all arrays."""
        # Names with a common prefix are neighbors in sorted order. U+10FFFF sorts behind every other character.
        prefix = f"{group}/" if group else ""
        first = bisect_left(self._sorted, prefix)
        last = bisect_left(self._sorted, f"{prefix}\U0010ffff") if prefix else len(self._sorted)
        return self._sorted[first:last]

    def array(self, name: str) -> np.ndarray:
        """Read and return an array.

        Raises:
            ValueError: the array declares more data than the file holds, is not of a floating dtype, or is not contiguous.
        """
        try:
            dataset = self.datasets[name]
            self._bytes_left -= _checked_size(name, dataset, self._bytes_left)
            return self._file.array(dataset)
        except files.RefusalError as error:
            raise ValueError(f"{error}: write or download the file again") from error


def read(path: Path, content: bytes | mmap) -> Content:
    """Parse an HDF5 file. Its arrays are read only when `Content.array` is called.

    Args:
        path: the path of the file, for error messages.
        content: the bytes of the file.

    Raises:
        ValueError: `content` is not a complete HDF5 file as Keras writes it.
    """
    try:
        return Content(File(content), len(content))
    except files.RefusalError as error:
        raise ValueError(f"{path} is not a whole HDF5 file as Keras writes it ({error}): write or download it again") from error


def _checked_size(name: str, dataset: Dataset, bytes_left: int) -> int:
    """Return the size of a dataset in bytes.

    Raises:
        RefusalError: the array cannot be read, or is larger than `bytes_left`.
    """
    if dataset.obstacle:
        raise files.RefusalError(f"{name[-80:]!r} is {dataset.obstacle}")
    if dataset.dtype is None:
        raise files.RefusalError(f"{name[-80:]!r} is not in one of {', '.join(FLOATS)}")
    # Each axis is checked too, because a shape with a 0 has no bytes, however large its other axes are.
    if len(dataset.shape) > _MAX_AXES or max(dataset.nbytes, *dataset.shape, 0) > bytes_left or dataset.size < dataset.nbytes:
        raise files.RefusalError(f"{name[-80:]!r} declares more numbers than it holds")
    return dataset.nbytes
