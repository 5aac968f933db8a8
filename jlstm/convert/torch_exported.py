"""Reading of the weights in a file of `torch.export.save`, a `.pt2` archive, without PyTorch.

The archive has a JSON object with the sizes and strides of each weight by its name, and each storage in a member of its own:
https://docs.pytorch.org/docs/stable/export/pt2_archive.html
"""

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from jlstm.convert import files
from jlstm.convert.files import RefusalError
from jlstm.convert.torch_tensors import Storage, Tensor, Unreadable

_CONFIG = "_weights_config.json"
# The numbers of dtypes, `ScalarType` in torch/_export/serde/schema.py: the storage of PyTorch, and its bytes per element.
_STORAGES = {6: ("HalfStorage", 2), 7: ("FloatStorage", 4), 8: ("DoubleStorage", 8), 13: ("BFloat16Storage", 2)}


def is_exported(names: list[str]) -> bool:
    """Return whether the members of an archive, without its folder, are those of an exported program with weights."""
    return "archive_format" in names and any(name.startswith("data/weights/") and name.endswith(_CONFIG) for name in names)


def entries(path: Path, archive: ZipFile, folder: str) -> dict[str, Tensor | Unreadable]:
    """Return the weights of an exported program by name. With several models in the file, the names begin with theirs.

    Args:
        path: the file, for messages.
        archive: the open archive.
        folder: the name of its only folder.

    Raises:
        RefusalError: a description of a weight is damaged.
        ValueError: a member is damaged.
    """
    start = f"{folder}/data/weights/"
    sizes = {info.filename.removeprefix(start): info.file_size for info in archive.infolist()}
    configs = [name for name in sizes if name.endswith(_CONFIG) and "/" not in name]
    result: dict[str, Tensor | Unreadable] = {}
    for config in configs:
        prefix = f"{config.removesuffix(_CONFIG)}." if len(configs) > 1 else ""
        try:
            weights = json.loads(files.read_member(path, archive, start + config))["config"]
            result |= {prefix + str(name): _entry(weight, sizes) for name, weight in weights.items()}
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise RefusalError(f"it has no whole {config[:80]!r}") from error
    return result


def _entry(weight: Any, sizes: dict[str, int]) -> Tensor | Unreadable:
    """Return a weight, whose storage is a member of the archive with one of these sizes in bytes."""
    if weight["use_pickle"]:
        return Unreadable("a tensor that is pickled", is_tensor=True)
    description = weight["tensor_meta"]
    if description["dtype"] not in _STORAGES:
        return Unreadable(f"a tensor of PyTorch's type {str(description['dtype'])[:20]}", is_tensor=True)
    kind, width = _STORAGES[description["dtype"]]
    storage = Storage(weight["path_name"], kind, sizes[weight["path_name"]] // width)
    shape, strides = (tuple(map(_whole, description[key])) for key in ("sizes", "strides"))
    if len(shape) != len(strides) or len(shape) > 32:
        raise RefusalError("it has a weight of other axes than it declares")
    return Tensor(storage, _whole(description["storage_offset"]), shape, strides)


def _whole(entry: Any) -> int:
    """Return a size, which is written as {"as_int": 3}."""
    number = entry["as_int"]
    if not isinstance(number, int) or number < 0:
        raise RefusalError("it has a weight with a size that is not a whole number")
    return number
