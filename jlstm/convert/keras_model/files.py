"""Reading of Keras's `.keras`, `.h5` and `.weights.h5` files, with or without the configuration of the model."""

import json
import os
import re
from mmap import mmap
from pathlib import Path
from typing import Any

from jlstm._src import checks
from jlstm.convert import files, hdf5
from jlstm.convert.hdf5 import Content
from jlstm.convert.keras_graph import others
from jlstm.convert.keras_model import described, undescribed
from jlstm.convert.keras_model.result import Result
from jlstm.convert.result import FileLayers

_SHARD = re.compile(r"(.*)_(\d{5})\.weights\.h5")


def read(path: str | os.PathLike[str], *, other_layers: bool = False, **options: Any) -> FileLayers:
    """Return the recurrent layers of a `.keras`, `.h5` or `.weights.h5` file by name, "outer/inner" in nested models.

    A `.keras` file and the `.h5` file of a whole model contain the configuration of their layers. A weights-only file does not:
    its layers are named by their own names or, where these are missing or not unique, by their paths, and their options are
    Keras's defaults, which `assumed` lists. For a default that changed between versions, the version that the file states
    decides. If the file states none, the option is required.

    Layers are in the order in which Keras lists those of a Sequential or functional model, which is the order in which they run.
    A `.weights.h5` file, in which Keras numbers layers by class, has this order only for layers of one class in one model; else
    `in_network_order` is False.

    Args:
        path: the file.
        other_layers: whether to return the other layers that have arrays too, such as an Embedding or a Dense, as `other_layers`
            of the result. `model` runs them.
        **options: as for `load`, including `merge`, for all layers of a weights-only file that have them. `spatial` is allowed
            for any file: the spatial sizes of a ConvLSTM's inputs, where the file does not state them.

    Returns:
        Layers and parameters by name. `skipped` lists recurrent layers that are not converted, and `unused` all other arrays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, is damaged, contradicts itself, or has no recurrent layer that can be converted.
    """
    checks.flag("other_layers", other_layers)
    path, content, description = contents(path)
    result = Result(path, content)
    if description is None:
        undescribed.convert(result, options)
    else:
        spatial = options.pop("spatial", None)
        if options:
            raise ValueError(f"{path} describes its layers, got {', '.join(options)} besides: leave the options out")
        described.convert(result, description, spatial)
    kinds = "LSTM, GRU, SimpleRNN or ConvLSTM layer"
    layers = result.layers()
    if other_layers:
        layers.other_layers = others.other_layers(result, description)
    return layers.warn_about_skipped(path, kinds, "read the file of a model that has one")


def contents(path: str | os.PathLike[str]) -> tuple[Path, Content, str | bytes | None]:
    """Return a file's path, its contents, and the configuration of its model; None if the file holds weights alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind or is damaged.
    """
    path = files.existing_file(path)
    mapped = files.memory_map(path)
    files.refuse_other_kind(path, mapped, "a file of Keras", "a Keras model", "an HDF5 file")
    # The content decides, since older versions of TensorFlow 2 write HDF5 into files called .keras, too.
    is_archive = mapped[:4] == b"PK\x03\x04" or (path.suffix == ".keras" and mapped[:4] != b"\x89HDF")
    return path, *(_archive(path) if is_archive else _plain(path, mapped))


def _plain(path: Path, mapped: bytes | mmap) -> tuple[Content, str | bytes | None]:
    """Return the contents and the configuration of an HDF5 file. A weights-only file has no configuration.

    Raises:
        ValueError: the file is not a complete HDF5 file as Keras writes it.
    """
    content = hdf5.read(path, mapped)
    _refuse_shard(path, content)
    return content, content.config


def _refuse_shard(path: Path, content: Content) -> None:
    """Refuse one of several files that Keras has divided the weights of a model into, as with `max_shard_size`.

    A cell may have arrays in several of them. It would look whole without its bias. Files of checkpoints may have such names too,
    but they are not numbered from 0, have no index beside them, and have the group of the model's own variables.

    Raises:
        ValueError: the file is one of several.
    """
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return
    has_index = any(path.with_name(f"{match[1]}{ending}").exists() for ending in (".weights.json", ".json"))
    if has_index or int(match[2]) == 0 or not content.has_group("vars"):
        raise ValueError(
            f"{path} is one of several files that Keras divides weights into, and so perhaps a layer: load all of them with "
            "Keras, and save the model as one file"
        )


def _archive(path: Path) -> tuple[Content, bytes]:
    """Return the contents and the configuration of a `.keras` file, a zip archive.

    Raises:
        ValueError: the archive is damaged, or has no weights, no configuration or no version of Keras.
    """
    with files.open_zip(path) as archive:
        members = {name: files.read_member(path, archive, name) for name in ("config.json", "metadata.json", "model.weights.h5")}
    config, metadata, weights = members.values()
    try:
        version = json.loads(metadata)["keras_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} has a metadata.json without Keras's version: save the model again") from error
    content = hdf5.read(path, weights)
    # In an archive, metadata.json states the version. The HDF5 file inside it does not.
    content.version = version if isinstance(version, str) else ""
    return content, config
