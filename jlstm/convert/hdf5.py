"""Keras's HDF5 files: their arrays by name, the order in which they are listed, and the model's description.

There are two layouts. Old files ("legacy") have a group for each layer under the layer's name, and attributes that list layers
and weights in order. New files number layers by their class, and the arrays of a layer by their position:
"layers/lstm_1/cell/vars/0".
"""

import re
from bisect import bisect_left
from mmap import mmap
from pathlib import Path

import numpy as np

from jlstm.convert import files
from jlstm.convert.arrays import FLOATS
from jlstm.convert.hdf5_format import Dataset, File

_LEGACY, _MOST_AXES = "model_weights", 8
_NUMBERED = re.compile(r"(?:.*/)?vars/\d+")
_OPTIMIZER = re.compile(r"optimizer/(?:.*/)?vars/\d+")  # in old files it is beside "model_weights"


class Content:
    """What a file holds.

    Args:
        file: the parsed file.
        size: its bytes, which all arrays together cannot exceed.

    Attributes:
        datasets: arrays by name, those of an optimizer left out.
        config: the model's description, if the file has one.
        version: of Keras, as the file states it; "" if it does not.
        numbered: whether the file has the new layout.
    """

    def __init__(self, file: File, size: int) -> None:
        self._file, self._left = file, size
        self._prefix = f"{_LEGACY}/" if _LEGACY in file.attributes else ""
        self.datasets: dict[str, Dataset] = {
            name.removeprefix(self._prefix): dataset
            for name, dataset in file.datasets.items()
            if name.startswith(self._prefix) and not _OPTIMIZER.fullmatch(name)
        }
        self._sorted = sorted(self.datasets)
        self.config: str | bytes | None = self._word("", "model_config")
        self.version: str = self._word("", "keras_version") or ""
        self.numbered = any(_NUMBERED.fullmatch(name) for name in self.datasets)

    def _word(self, group: str, name: str) -> str | None:
        value = self._file.attributes.get(group, {}).get(name)
        return value if isinstance(value, str) else None

    def own_name(self, base: str) -> str | None:
        """The name that Keras 3 writes beside a numbered layer's variables."""
        return self._word(f"{base}/vars".removeprefix("/"), "name")

    def listed(self, group: str, name: str) -> list[str] | None:
        """A list of words, which Keras spreads over attributes with numbers where it is long; None if there is no such list."""
        attributes = self._file.attributes.get(f"{self._prefix}{group}".removesuffix("/"), {})
        if isinstance(words := attributes.get(name), tuple):
            return list(words)
        parts: list[tuple[str, ...]] = []
        while isinstance(words := attributes.get(f"{name}{len(parts)}"), tuple):
            parts.append(words)
        return [word for part in parts for word in part] if parts else None

    def under(self, base: str) -> list[str]:
        """The names of all arrays below a group, sorted."""
        prefix = f"{base}/" if base else ""
        first = bisect_left(self._sorted, prefix)
        last = bisect_left(self._sorted, f"{prefix}\U0010ffff") if prefix else len(self._sorted)
        return self._sorted[first:last]

    def array(self, name: str) -> np.ndarray:
        """Read an array.

        Raises:
            ValueError: it declares more than the file holds, or is not of floating numbers in one piece.
        """
        try:
            dataset = self.datasets[name]
            self._left -= _checked(name, dataset, self._left)
            return self._file.array(dataset)
        except files.RefusalError as error:
            raise ValueError(f"{error}: write or download the file again") from error


def read(path: Path, content: bytes | mmap) -> Content:
    """Parse a file; its arrays are read when they are asked for.

    Args:
        path: the file's, for messages.
        content: of the HDF5 file.

    Raises:
        ValueError: it is no whole HDF5 file as Keras writes it.
    """
    try:
        return Content(File(content), len(content))
    except files.RefusalError as error:
        raise ValueError(f"{path} is not a whole HDF5 file as Keras writes it ({error}): write or download it again") from error


def _checked(name: str, dataset: Dataset, left: int) -> int:
    """How many bytes it takes of those that are left."""
    if dataset.obstacle:
        raise files.RefusalError(f"{name[-80:]!r} is {dataset.obstacle}")
    if dataset.dtype is None:
        raise files.RefusalError(f"{name[-80:]!r} is not in one of {', '.join(FLOATS)}")
    if len(dataset.shape) > _MOST_AXES or max(dataset.nbytes, *dataset.shape, 0) > left or dataset.size < dataset.nbytes:
        raise files.RefusalError(f"{name[-80:]!r} declares more numbers than it holds")
    return dataset.nbytes
