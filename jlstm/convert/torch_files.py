"""Reading of PyTorch's files without PyTorch: zip archives, the format from before PyTorch 1.6, and safetensors files."""

import zipfile
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from math import prod
from mmap import mmap
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from jlstm.convert import files, pickles, torch_tensors
from jlstm.convert.files import RefusalError
from jlstm.convert.torch_tensors import Other, Storage, Tensor

_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled number, with which files before PyTorch 1.6 begin
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_VIEWS = 4  # how many times the numbers of one storage may be read, in different views
_BYTES = {  # of a number in a storage of this type
    **dict.fromkeys(("Byte", "Char", "Bool", "QInt8", "QUInt8", "QUInt4x2", "QUInt2x4", "Untyped"), 1),
    **dict.fromkeys(("Short", "Half", "BFloat16"), 2),
    **dict.fromkeys(("Int", "Float", "QInt32"), 4),
    **dict.fromkeys(("Long", "Double", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}


class TensorFile(NamedTuple):
    """The contents of an open file.

    Attributes:
        entries: for each name, in the file's order, a key for `fetch`, or an `Other`, which cannot be fetched. Names of the same
            tensor have equal keys.
        fetch: returns the array of a key, after a check of its declared size.
        classes: the classes of pickled modules by name.
    """

    entries: Mapping[str, Hashable]
    fetch: Callable[[Any], np.ndarray]
    classes: Mapping[str, str] = {}


@contextmanager
def opened(path: Path) -> Iterator[TensorFile]:
    """Open a file of tensors.

    Raises:
        ValueError: the file is of another kind, or damaged. The message names the kind, where it is recognized, and a remedy.
    """
    content = files.mapped(path)
    if content[:4] == b"PK\x03\x04":
        with _zip(path) as archive:
            yield _zipped(path, archive)
    elif content[: len(_MAGIC)] == _MAGIC and isinstance(content, mmap):
        yield _legacy(path, content)
    elif told := files.kind(content):
        raise ValueError(f"{path} is {told[0]}, expected a state_dict or a safetensors file: {told[1]}")
    elif content[8:9] == b"{" or path.suffix == ".safetensors":
        with _safetensors(path) as file:
            yield file
    elif content[:1] == b"\x80":
        raise ValueError(
            f"{path} is a pickle that torch.save has not written: load it where you trust it, and torch.save its weights"
        )
    else:
        raise ValueError(f"{path} is neither a file that torch.save writes nor a safetensors file: write or download it again")


@contextmanager
def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [
                name.rpartition("/")[2] if name.endswith(".npy") else name.partition("/")[2] or name
                for name in archive.namelist()
            ]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        names = []  # `members` refuses it
    told = ""
    if "constants.pkl" in names:
        told = "TorchScript, expected a state_dict: torch.save(torch.jit.load(path).state_dict(), …) and read that"
    elif "archive_format" in names:
        told = "an exported program, expected a state_dict: torch.save(torch.export.load(path).state_dict, …) and read that"
    elif ".data/extern_modules" in names:
        told = "a torch.package archive, expected a state_dict: import the model from it and torch.save its state_dict()"
    elif "model.weights.h5" in names:
        told = "a Keras model: read it with jlstm.convert.keras"
    elif names and all(name.endswith(".npy") for name in names):
        told = "a NumPy archive: pass its arrays to load by PyTorch's names"
    if told:
        raise ValueError(f"{path} is {told}")
    with files.members(path) as archive:
        yield archive


def _zipped(path: Path, archive: zipfile.ZipFile) -> TensorFile:
    names = archive.namelist()
    folder = names[0].partition("/")[0] if names else ""
    if f"{folder}/data.pkl" not in names:
        raise ValueError(f"{path} is a zip file without a data.pkl, which torch.save writes: write or download it again")
    if f"{folder}/byteorder" in names and files.member(path, archive, f"{folder}/byteorder") != b"little":
        raise ValueError(f"{path} was written on a big-endian machine: load it with PyTorch and save it on a usual one")
    content = files.member(path, archive, f"{folder}/data.pkl")
    with _sentences(path):
        root, _ = pickles.described(content, len(content))
        entries, classes = torch_tensors.named(root, len(content))
    return TensorFile(entries, _fetch(path, lambda storage: files.member(path, archive, f"{folder}/data/{storage.key}")), classes)


def _legacy(path: Path, content: mmap) -> TensorFile:
    """Read the format before PyTorch 1.6: pickles of magic number, version, system, object and storage keys, then storages."""
    with _sentences(path):
        pickled: list[Any] = [pickles.described(content, len(content)) for _ in range(5)]
        (root, references), (keys, _) = pickled[3:]
        storages = {found.key: found for part in references if (found := torch_tensors.storage_of(part))}
        entries, classes = torch_tensors.named(root, len(content))
        places, end = dict[str, slice](), content.tell()
        for key in keys if isinstance(keys, pickles.Value) else []:
            storage = storages.get(pickles.text(key))
            width = _BYTES.get(storage.kind.removesuffix("Storage")) if storage else None
            if not storage or not width:
                raise RefusalError(f"it has a storage {pickles.text(key)[:40]!r} of an unknown type")
            size = int.from_bytes(content[end : end + 8], "little")
            if size != storage.size or end + 8 + size * width > len(content):
                raise RefusalError("it declares more numbers than it holds")
            places[storage.key] = slice(end + 8, end := end + 8 + size * width)

    def stored(storage: Storage) -> bytes:
        if storage.key not in places:
            raise ValueError(f"{path} has no storage {storage.key[:40]!r} in it: write or download it again")
        return content[places[storage.key]]

    return TensorFile(entries, _fetch(path, stored), classes)


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    try:
        yield
    except RefusalError as error:
        raise ValueError(f"{path} is not a whole file of torch.save ({error}): write or download it again") from error


def _fetch(path: Path, stored: Callable[[Storage], bytes]) -> Callable[[Tensor], np.ndarray]:
    """Return a function that reads tensors. All views of one storage may hold at most `_VIEWS` times its size."""
    stored, taken = cache(stored), dict[str, int]()

    @cache
    def fetch(tensor: Tensor) -> np.ndarray:
        storage, dtype = tensor.storage, jnp.dtype(torch_tensors.FLOATS[tensor.storage.kind])
        last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
        taken[storage.key] = taken.get(storage.key, 0) + prod(tensor.shape)
        if (prod(tensor.shape) and last >= storage.size) or taken[storage.key] > _VIEWS * storage.size:
            raise ValueError(f"{path} declares more numbers than it holds: save module.state_dict() again")
        content = stored(storage)
        if storage.size * dtype.itemsize > len(content):
            raise ValueError(f"{path} declares more numbers than it holds: write or download it again")
        if not prod(tensor.shape):
            return np.zeros(tensor.shape, dtype)
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        return np.ndarray(tensor.shape, dtype, content, tensor.offset * dtype.itemsize, strides)

    return fetch


@contextmanager
def _safetensors(path: Path) -> Iterator[TensorFile]:
    """Open a safetensors file, whose reader checks sizes. `save_model` writes tied tensors once, with other names as metadata."""
    try:
        with safe_open(path, "np") as file:
            names = sorted(file.keys())
            dtypes = {name: file.get_slice(name).get_dtype() for name in names}
            entries: dict[str, Hashable] = {
                name: name if dtype in _FLOATS else Other(f"a tensor of type {dtype}", is_tensor=True)
                for name, dtype in dtypes.items()
            }
            tied = {
                name: entries[kept] for name, kept in (file.metadata() or {}).items() if kept in entries and name not in entries
            }
            yield TensorFile(dict(sorted((entries | tied).items())), cache(file.get_tensor))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({files.reason(error)}): write or download it again") from error
