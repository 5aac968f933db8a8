"""Keras's files: `.keras`, `.h5` and `.weights.h5`, with a model's description or with weights alone."""

import json
import os
from pathlib import Path
from typing import Any

from jlstm.convert import files, hdf5
from jlstm.convert.hdf5 import Content
from jlstm.convert.keras_model import described, undescribed
from jlstm.convert.keras_model.result import Result
from jlstm.convert.result import FileLayers


def read(path: str | os.PathLike[str], **options: Any) -> FileLayers:
    """Return the recurrent layers of a `.keras`, `.h5` or `.weights.h5` file by name, "outer/inner" in nested models.

    A `.keras` file and a whole model's `.h5` describe their layers. In a file with weights alone, names are the layers' own or,
    where the file has none or several are alike, their paths; what it does not state is Keras's default, which `assumed` lists.
    A default that was changed between versions is decided by the version that the file states, else asked for.

    Layers are in the order in which Keras lists those of a Sequential or functional model, and in which they run. A file with
    weights alone tells this order for layers of one class in one model; else `in_network_order` is False.

    Args:
        path: the file.
        **options: as for `load`, `merge` included, for all layers that have them, of a file with weights alone. `spatial` is for
            any file: the spatial sizes of a ConvLSTM's inputs, where it does not tell them.

    Returns:
        Layers and parameters by name. `skipped` lists recurrent layers that are not converted, and `unused` all other arrays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, is damaged, contradicts itself, or has no recurrent layer that can be converted.
    """
    path = files.existing(path)
    content, description = _archive(path) if path.suffix == ".keras" else _plain(path)
    result = Result(path, content)
    if description is None:
        undescribed.convert(result, options)
    else:
        spatial = options.pop("spatial", None)
        if options:
            raise ValueError(f"{path} describes its layers, got {', '.join(options)} besides: leave the options out")
        described.convert(result, description, spatial)
    return result.layers().checked(path, "LSTM, GRU, SimpleRNN or ConvLSTM layer", "read the file of a model that has one")


def _plain(path: Path) -> tuple[Content, str | bytes | None]:
    content = hdf5.read(path, files.mapped(path))
    return content, content.config


def _archive(path: Path) -> tuple[Content, bytes]:
    with files.members(path) as archive:
        members = {name: files.member(path, archive, name) for name in ("config.json", "metadata.json", "model.weights.h5")}
    config, metadata, weights = members.values()
    try:
        version = json.loads(metadata)["keras_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} has a metadata.json without Keras's version: save the model again") from error
    content = hdf5.read(path, weights)
    content.version = version if isinstance(version, str) else ""
    return content, config
