"""Detects the framework of a model file, and reads the file."""

import inspect
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

import jlstm
from jlstm import convert
from parity import peers
from parity.model.leftovers import CompareWhole
from parity.model.original import Original

SUFFIXES = {
    **dict.fromkeys((".keras", ".h5", ".hdf5"), "keras"),
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt", ".safetensors"), "torch"),
    ".onnx": "onnx",
}
WHOLE = "the whole model"  # the name of its case
TRUTHS = {
    "keras": "Keras's own results in float64",
    "torch": "PyTorch's own results in float64",
    "onnx": "ONNX Runtime's own results in float32, the only precision that it has",
    "tf1": "TensorFlow's own results in float64",
}


@dataclass(frozen=True)
class ModelFile:
    """A model file: its recurrent layers, converted, and as its framework runs them.

    Args:
        path: the file, or the common prefix of a TensorFlow checkpoint's files.
        framework: the module of `jlstm.convert` that reads it.
        layers: the chosen layers: converted layer and parameters by name.
        originals: the framework's layers by the same names.
        incomplete: parts that are or look recurrent but are not compared: the reason by name.
        not_compared: names of other arrays.
        assumed: one sentence for each thing that the file does not state.
        compare_whole: compares the whole model for given lengths, as in `Contents`; None if it is not chosen or cannot be run.
    """

    path: Path
    framework: str
    layers: Mapping[str, tuple[jlstm.Layer, Any]]
    originals: Mapping[str, Original]
    incomplete: Mapping[str, str]
    not_compared: tuple[str, ...]
    assumed: tuple[str, ...]
    compare_whole: CompareWhole | None = None

    @property
    def truth(self) -> str:
        """The results that both sides are compared with, in words."""
        return TRUTHS[self.framework]


def read(path: str | os.PathLike[str], pattern: str = "*", options: Mapping[str, Any] | None = None) -> ModelFile:
    """Convert a model's recurrent layers, and load them in the file's framework.

    Args:
        path: the model file. For a TensorFlow checkpoint, its name without `.index`.
        pattern: choose only layers whose name contains this; * and ? are wildcards.
        options: what the file does not state, passed to the reader in `jlstm.convert`.

    Returns:
        The converted layers, the originals by the same names, and what else the file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the framework is not installed.
        ValueError: the kind of file is unknown, no layer can be compared, or the converter or the framework refuses the file.
    """
    path, options = Path(path), dict(options or {})
    framework = kind(path)
    path = path.with_suffix("") if framework == "tf1" and path.suffix == ".index" else path
    converted = _converted(getattr(convert, framework).read, path, options)
    chosen = {name: layer for name, layer in converted.items() if fnmatch(name, f"*{pattern}*")}
    skipped = {name: why for name, why in getattr(converted, "skipped", {}).items() if fnmatch(name, f"*{pattern}*")}
    if not chosen:
        raise ValueError(f"no recurrent layer has {pattern!r} in its name: choose among {', '.join(converted)}")
    originals, contents = peer_module(framework).originals(path, list(converted), options)
    # The converter's reasons come first. The framework's are added for layers that the converter has not named.
    incomplete = {name: f"not converted: {why}" for name, why in skipped.items()}
    for name, why in contents.incomplete.items():
        if (name in chosen or name not in converted) and not any(_same_layer(reported, name) for reported in incomplete):
            incomplete[name] = why
    assumed = dict.fromkeys((*getattr(converted, "assumed", ()), *contents.assumed))
    # `incomplete` has the framework's reason for a layer that is not among the originals.
    chosen = {name: layer for name, layer in chosen.items() if name in originals}
    if not chosen:
        reasons = "; ".join(f"{name!r}: {why}" for name, why in list(incomplete.items())[:3])
        raise ValueError(f"{path} has no layer that can be compared: {reasons}")
    compare_whole = contents.compare_whole if fnmatch(WHOLE, f"*{pattern}*") else None
    return ModelFile(path, framework, chosen, originals, incomplete, contents.not_compared, tuple(assumed), compare_whole)


def kind(path: Path) -> str:
    """Return the framework of a file, judged by its name.

    Raises:
        ValueError: no known framework uses such a name, or it is that of a folder.
    """
    # Before the endings: a checkpoint of TensorFlow is often called model.ckpt, an ending that PyTorch's files have too.
    if path.suffix == ".index" or Path(f"{path}.index").is_file():
        return "tf1"
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a model file: name a file in it")
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"{path} must be one of {', '.join(SUFFIXES)} or a TensorFlow checkpoint, got {path.suffix or 'no ending'!r}: "
            "convert it first"
        )
    return SUFFIXES[path.suffix]


def _converted(reader: Any, path: Path, options: Mapping[str, Any]) -> Any:
    accepted = inspect.signature(reader).parameters
    # A reader that takes any keyword checks the options itself.
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        unknown = []
    else:
        unknown = [name for name in options if name not in accepted]
    if unknown:
        raise ValueError(f"{path} is not read with an option {unknown[0]!r}: leave --option {unknown[0]} out")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).* is not converted: ", UserWarning)  # the report lists them
        return reader(path, **options)


def _same_layer(name_a: str, name_b: str) -> bool:
    """Whether the converter's and the framework's name mean the same layer: their last parts are equal."""
    return name_a.split("/")[-1] == name_b.split("/")[-1]


def peer_module(name: str) -> Any:
    """Import and return the module of `parity.model` for a framework.

    Raises:
        parity.peers.MissingPeerError: the framework is not installed.
    """
    try:
        return import_module(f"parity.model.{name}")
    except ImportError as error:
        raise peers.MissingPeerError(f'{name} cannot be imported ({error}): pip install "jlstm[parity,peers]"') from error
