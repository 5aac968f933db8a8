"""Reading of the tensors of an ONNX model, from its file or from external files, on request.

Declared sizes are checked against the files before memory is allocated. A file beside the model must lie in the model's folder:
https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

import hashlib
import math
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from jlstm.convert.onnx_model.reasons import UnsupportedError, quoted


class Tensors:
    """Reads the tensors of one model.

    Args:
        onnx: the onnx package.
        path: the file of the model.

    Attributes:
        size: the size in bytes of the model's file and of all external files so far. It bounds what reading the model may cost.
    """

    def __init__(self, onnx: Any, path: Path) -> None:
        self._onnx, self._path = onnx, path
        self._external_files: dict[str, Path] = {}
        self._digests: dict[Path, str] = {}
        self.size = path.stat().st_size

    def array(self, tensor: Any) -> np.ndarray:
        """Return a TensorProto as an array.

        Raises:
            UnsupportedError: the tensor holds strings, or is in segments.
            ValueError: the tensor is damaged, or its file is missing or not in the model's folder.
        """
        name = quoted(tensor.name)
        if tensor.data_type == self._onnx.TensorProto.STRING or tensor.HasField("segment"):
            raise UnsupportedError(f"the tensor {name} is text or in segments, expected numbers in one piece: export it so")
        if any(size < 0 for size in tensor.dims):
            raise ValueError(f"{self._path}: the tensor {name} has a negative size: export the model again")
        if tensor.data_location == self._onnx.TensorProto.EXTERNAL:
            loaded = self._onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=self._read_external(tensor))
            return self._decode(loaded, name)
        return self._decode(tensor, name)

    def _decode(self, tensor: Any, name: str) -> np.ndarray:
        try:
            return self._onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ValueError(
                f"{self._path}: the tensor {name} is of another size or type than it declares: export it again"
            ) from error

    def _read_external(self, tensor: Any) -> bytes:
        """Return the bytes of a tensor in an external file, after checks of its size, offset and checksum."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file, name = self._external_file(entries.get("location", "")), quoted(tensor.name)
        try:
            offset = int(entries.get("offset", 0))
            needed = math.prod(tensor.dims) * self._onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            length = int(entries.get("length", needed))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self._path}: the tensor {name} does not say where its data is: export the model again") from error
        size = file.stat().st_size
        if offset < 0 or length != needed or offset + length > size:
            raise ValueError(
                f"{self._path}: the tensor {name} needs {needed} bytes, got {length} at {offset} of the {size} in "
                f"{quoted(file.name)}: copy or export both files again"
            )
        # The checksum is that of the whole external file.
        if "checksum" in entries and entries["checksum"].lower() != self._digest(file):
            raise ValueError(
                f"{self._path}: {quoted(file.name)} is not the file that the tensor {name} was written to, by its SHA-1: "
                "copy both files again"
            )
        with file.open("rb") as content:
            content.seek(offset)
            return content.read(length)

    def _external_file(self, location: str) -> Path:
        """Return the external file with this name.

        It must lie in the model's folder or, if the model's path is a symbolic link, in the folder of the link's target.
        Otherwise, an untrusted model could make the reader open any file of the machine.
        """
        if location in self._external_files:
            return self._external_files[location]
        as_windows = PureWindowsPath(location)  # splits at both kinds of slashes, and knows drives
        if not location or "\0" in location or as_windows.anchor or ".." in as_windows.parts:
            raise ValueError(
                f"{self._path} has weights in {quoted(location)}, expected a file in its own folder: export it again"
            )
        try:
            file = (self._path.parent / location).resolve()
            folders = (self._path.parent.resolve(), self._path.resolve().parent)
            is_inside, exists = any(file.is_relative_to(folder) for folder in folders), file.is_file()
        except (OSError, RuntimeError) as error:  # a cycle of links, or a name that is too long
            raise ValueError(
                f"{self._path} has weights in {quoted(location)}, which cannot be opened: export it again"
            ) from error
        if not is_inside:
            raise ValueError(f"{self._path} has weights in {quoted(location)}, a link to elsewhere: copy that file itself here")
        if not exists:
            raise ValueError(f"{self._path} has weights in {quoted(location)}, which is not there: copy that file beside it")
        self._external_files[location] = file
        self.size += file.stat().st_size
        return file

    def _digest(self, file: Path) -> str:
        if file not in self._digests:
            with file.open("rb") as content:
                self._digests[file] = hashlib.file_digest(content, "sha1").hexdigest()
        return self._digests[file]
