"""Reading of PyTorch's files without PyTorch: zip archives, the format from before PyTorch 1.6, and safetensors files."""

import re
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

from jlstm.convert import files, pickles, torch_exported, torch_tensors
from jlstm.convert.files import RefusalError
from jlstm.convert.torch_tensors import Storage, Tensor, Unreadable

# One of several files, as in "model-00001-of-00002.safetensors".
_SHARD = re.compile(r"(?<!\d)\d+-of-0*([2-9]|[1-9]\d+)(?!\d)")
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# The elements that all views of a storage may have together, as a multiple of the storage's size. Views may repeat elements, so
# a small file could otherwise declare arrays of any size.
_MAX_READS = 4
_ELEMENT_BYTES = {  # the size of an element in a storage of this type
    **dict.fromkeys(("Byte", "Char", "Bool", "QInt8", "QUInt8", "QUInt4x2", "QUInt2x4", "Untyped"), 1),
    **dict.fromkeys(("Short", "Half", "BFloat16"), 2),
    **dict.fromkeys(("Int", "Float", "QInt32"), 4),
    **dict.fromkeys(("Long", "Double", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}


class TensorFile(NamedTuple):
    """The contents of an open file of tensors.

    Attributes:
        entries: for each name, in the file's order, a key for `fetch`, or an `Unreadable`. Names of the same tensor have equal
            keys.
        fetch: returns the array of a key, after a check of its declared size.
        classes: the names of the classes of pickled modules, by the modules' names.
    """

    entries: Mapping[str, Hashable]
    fetch: Callable[[Any], np.ndarray]
    classes: Mapping[str, str] = {}


@contextmanager
def open_file(path: Path) -> Iterator[TensorFile]:
    """Open a file of tensors. The first bytes tell its format.

    Raises:
        ValueError: the file is of another kind, damaged, or one of several files with the tensors of a model. The message names
            the kind, where it is recognized, and a remedy.
    """
    # A layer may have tensors in several of them. It would look whole without those that are optional, such as its biases.
    if shard := _SHARD.search(path.name):
        raise ValueError(
            f"{path} is one of {shard[1]} files that a model is divided into, and so perhaps a layer: load all of them, and save "
            "their tensors as one file"
        )
    content = files.memory_map(path)
    if content[:4] == b"PK\x03\x04":
        with _open_zip(path) as archive:
            yield _read_zip(path, archive)
    elif content[: len(files.PYTORCH_LEGACY)] == files.PYTORCH_LEGACY and isinstance(content, mmap):
        yield _read_legacy(path, content)
    elif kind := files.kind(content):
        raise ValueError(f"{path} is {kind[0]}, expected a state_dict or a safetensors file: {kind[1]}")
    # A safetensors file begins with the length of its header in 8 bytes, and the header is a JSON object.
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
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive, after a check that it is not one of another framework or another format of PyTorch.

    Raises:
        ValueError: it is such an archive, or is not a whole zip file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # Names relative to the archive's only folder, except those of NumPy's archives, which have no such folder.
            names = [
                name.rpartition("/")[2] if name.endswith(".npy") else name.partition("/")[2] or name
                for name in archive.namelist()
            ]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        names = []  # `files.open_zip` refuses this file below, with a full message
    problem = ""
    if "constants.pkl" in names:
        problem = "TorchScript, expected a state_dict: torch.save(torch.jit.load(path).state_dict(), …) and read that"
    elif "archive_format" in names and not torch_exported.is_exported(names):
        problem = (
            "an exported program without weights that can be read: save it again by torch.export.save of PyTorch 2.8 or newer"
        )
    elif ".data/extern_modules" in names:
        problem = "a torch.package archive, expected a state_dict: import the model from it and torch.save its state_dict()"
    elif "model.weights.h5" in names:
        problem = "a Keras model: read it with jlstm.convert.keras"
    elif names and all(name.endswith(".npy") for name in names):
        problem = "a NumPy archive: pass its arrays to load by PyTorch's names"
    if problem:
        raise ValueError(f"{path} is {problem}")
    with files.open_zip(path) as archive:
        yield archive


def _read_zip(path: Path, archive: zipfile.ZipFile) -> TensorFile:
    """Read the format since PyTorch 1.6: an archive with a pickle in data.pkl, and each storage in a member of its own.

    An exported program is read too, which has a JSON object in place of the pickle.

    Raises:
        ValueError: the archive has no pickle, is damaged, or was written on a big-endian machine.
    """
    names = archive.namelist()
    folder = names[0].partition("/")[0] if names else ""
    if f"{folder}/byteorder" in names and files.read_member(path, archive, f"{folder}/byteorder") != b"little":
        raise ValueError(f"{path} was written on a big-endian machine: load it with PyTorch and save it on a usual one")
    if torch_exported.is_exported([name.partition("/")[2] for name in names]):
        with _name_file(path):
            exported = torch_exported.entries(path, archive, folder)
        start = f"{folder}/data/weights/"
        return TensorFile(exported, _fetch(path, lambda storage: files.read_member(path, archive, start + storage.key)))
    if f"{folder}/data.pkl" not in names:
        raise ValueError(f"{path} is a zip file without a data.pkl, which torch.save writes: write or download it again")
    content = files.read_member(path, archive, f"{folder}/data.pkl")
    with _name_file(path):
        root, _ = pickles.described(content, len(content))
        entries, classes = torch_tensors.find_tensors(root, len(content))
    # A storage is read only when a tensor of it is fetched, so the state of an optimizer is never read.
    return TensorFile(
        entries, _fetch(path, lambda storage: files.read_member(path, archive, f"{folder}/data/{storage.key}")), classes
    )


def _read_legacy(path: Path, content: mmap) -> TensorFile:
    """Read the format from before PyTorch 1.6.

    It has five pickles: a magic number, the version, facts about the system, the saved object, and the keys of the storages. The
    storages follow in the order of the keys. Each begins with its number of elements, in 8 bytes.

    Raises:
        ValueError: the file is damaged.
    """
    with _name_file(path):
        # Each call leaves the memory map at the end of its pickle.
        pickled: list[Any] = [pickles.described(content, len(content)) for _ in range(5)]
        (root, references), (keys, _) = pickled[3:]
        storages = {item.key: item for reference in references if (item := torch_tensors.storage_of(reference))}
        entries, classes = torch_tensors.find_tensors(root, len(content))
        places, end = dict[str, slice](), content.tell()
        for key in keys if isinstance(keys, pickles.Value) else []:
            storage = storages.get(pickles.text(key))
            width = _ELEMENT_BYTES.get(storage.kind.removesuffix("Storage")) if storage else None
            if not storage or not width:
                raise RefusalError(f"it has a storage {pickles.text(key)[:40]!r} of an unknown type")
            size = int.from_bytes(content[end : end + 8], "little")
            if size != storage.size or end + 8 + size * width > len(content):
                raise RefusalError("it declares more numbers than it holds")
            places[storage.key] = slice(end + 8, end := end + 8 + size * width)

    def read_storage(storage: Storage) -> bytes:
        if storage.key not in places:
            raise ValueError(f"{path} has no storage {storage.key[:40]!r} in it: write or download it again")
        return content[places[storage.key]]

    return TensorFile(entries, _fetch(path, read_storage), classes)


@contextmanager
def _name_file(path: Path) -> Iterator[None]:
    """Turn a refusal into a ValueError that names the file."""
    try:
        yield
    except RefusalError as error:
        raise ValueError(f"{path} is not a whole file of PyTorch ({error}): write or download it again") from error


def _fetch(path: Path, read_storage: Callable[[Storage], bytes]) -> Callable[[Tensor], np.ndarray]:
    """Return a function that reads tensors.

    Args:
        path: the file, for messages.
        read_storage: returns the bytes of a storage.

    Returns:
        A function from a Tensor to its array. It raises ValueError if the tensor reaches beyond its storage, or if all tensors so
        far have more than `_MAX_READS` times the elements of a storage.
    """
    # Both caches matter: tied tensors are equal, so they become one array, and views of one storage read the file once.
    read_storage, elements_read = cache(read_storage), dict[str, int]()

    @cache
    def fetch(tensor: Tensor) -> np.ndarray:
        storage, dtype = tensor.storage, jnp.dtype(torch_tensors.FLOATS[tensor.storage.kind])
        # The position of the last element. With a shape and strides, it bounds all elements that the view can reach.
        last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
        elements_read[storage.key] = elements_read.get(storage.key, 0) + prod(tensor.shape)
        if (prod(tensor.shape) and last >= storage.size) or elements_read[storage.key] > _MAX_READS * storage.size:
            raise ValueError(f"{path} declares more numbers than it holds: save module.state_dict() again")
        content = read_storage(storage)
        if storage.size * dtype.itemsize > len(content):
            raise ValueError(f"{path} declares more numbers than it holds: write or download it again")
        if not prod(tensor.shape):
            return np.zeros(tensor.shape, dtype)
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        return np.ndarray(tensor.shape, dtype, content, tensor.offset * dtype.itemsize, strides)

    return fetch


@contextmanager
def _safetensors(path: Path) -> Iterator[TensorFile]:
    """Open a safetensors file. Its reader checks the declared sizes.

    `safetensors.torch.save_model` writes tied tensors once, and maps their other names to the saved name in the metadata.

    Raises:
        ValueError: the file is not a whole safetensors file.
    """
    try:
        with safe_open(path, "np") as file:
            names = sorted(file.keys())
            dtypes = {name: file.get_slice(name).get_dtype() for name in names}
            entries: dict[str, Hashable] = {
                name: name if dtype in _FLOATS else Unreadable(f"a tensor of type {dtype}", is_tensor=True)
                for name, dtype in dtypes.items()
            }
            tied = {
                name: entries[saved_name]
                for name, saved_name in (file.metadata() or {}).items()
                if saved_name in entries and name not in entries
            }
            yield TensorFile(dict(sorted((entries | tied).items())), cache(file.get_tensor))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({files.reason(error)}): write or download it again") from error
