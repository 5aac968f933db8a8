"""Conversion of TensorFlow checkpoints, which TensorFlow itself reads.

Cells of TensorFlow 1 are found by the names of their variables, and layers of TensorFlow 2 by the graph of saved objects. Only
the arrays of layers that are converted are loaded.
"""

import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jlstm import checks
from jlstm.convert import files, layout, tf1_cells, tf_index, tf_objects, tf_scopes
from jlstm.convert.arrays import FLOATS
from jlstm.convert.files import RefusalError
from jlstm.convert.result import FileLayers
from jlstm.convert.tf_objects import Objects
from jlstm.convert.tf_scopes import Result

KERAS_DEFAULTS = {"activation": "tanh", "recurrent_activation": "sigmoid", "reverse": "False", "merge": "concat"}
TF1_DEFAULTS = {"activation": "tanh", "cell_clip": "None", "projection_clip": "None"}
FORGET_BIAS = "a checkpoint does not state the forget_bias that its LSTM cells add: their default, 1, is assumed"
TWICE = "several objects have variables of one name: pass those of each to load"
_SIDE = re.compile(r"(?:^|/)fw/")
_RELU = re.compile(r"(?:^|/)cudnn_rnn_relu(?:_\d+)?/")  # the name of a CudnnRNNRelu; the class of its cell is a plain one's


class Checkpoint(NamedTuple):
    """An open checkpoint, with the shapes and dtypes of its variables and the names of those that were loaded."""

    path: Path
    reader: Any
    errors: tuple[type[Exception], ...]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, Any]
    loaded: set[str]

    def arrays(self, names: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Load variables. `names` maps the names in the result to those in the checkpoint.

        Raises:
            RefusalError: the checkpoint is damaged, or declares more data than it holds.
            ValueError: a variable does not have a floating dtype.
        """
        held = sum(data.stat().st_size for data in self.path.parent.glob(f"{_escaped(self.path.name)}.data-*"))
        self.loaded.update(names.values())
        missing = next((name for name in names.values() if name not in self.shapes), None)
        if missing is not None:
            raise RefusalError(f"describes a variable {missing[:80]!r} that is not there")
        # Checked first, because TensorFlow aborts the process when it reads a reference dtype.
        other = next((name for name in names.values() if self.dtypes[name].name not in FLOATS), None)
        if other is not None:
            kind = self.dtypes[other].name
            raise ValueError(f"it has {other[-80:]!r} in {kind}, expected one of {', '.join(FLOATS)}: save weights of floats")
        declared = sum(
            int(np.prod(self.shapes[name], dtype=object)) * self.dtypes[name].size for name in self.loaded & self.shapes.keys()
        )
        if declared > held:
            raise RefusalError(f"declares {declared} bytes and holds {held}")
        try:
            return {own: self.reader.get_tensor(name) for own, name in names.items()}
        except self.errors as error:
            raise RefusalError(f"is not a whole checkpoint ({files.reason(error)})") from error


def read(path: str | os.PathLike[str], forget_bias: float | None, options: dict[str, Any]) -> FileLayers:
    """Return all recurrent layers of a checkpoint.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ImportError: TensorFlow is not installed.
        ValueError: the checkpoint is damaged.
    """
    path = checks.path("path", path)
    if not Path(f"{path}.index").is_file():
        raise FileNotFoundError(f"there is no file {path}.index: give the checkpoint's name without .index and .data-…")
    try:
        checkpoint, tree = _open(path)
        layers = _Layers(checkpoint, tree, options)
        layers.of_objects()
        layers.of_scopes(forget_bias)
    except RefusalError as error:
        raise ValueError(f"{path} {error}: copy all its files") from error
    return layers.result()


def _open(path: Path) -> tuple[Checkpoint, Objects | None]:
    tf = files.needed("tensorflow", path)
    described = tf_index.checked(Path(f"{path}.index"))
    message = files.needed("tensorflow.core.protobuf.trackable_object_graph_pb2", path).TrackableObjectGraph
    decode_error = files.needed("google.protobuf.message", path).DecodeError
    errors = tf.errors.OpError, RuntimeError, TypeError, ValueError, IndexError  # as TensorFlow's statuses arrive here
    try:
        reader = tf.train.load_checkpoint(str(path))
        dtypes = reader.get_variable_to_dtype_map()
        shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items() if name != tf_index.GRAPH}
        tree = tf_objects.objects(reader.get_tensor(tf_index.GRAPH), message, shapes) if described else None
    except (*errors, decode_error) as error:
        raise RefusalError(f"is not a whole checkpoint ({files.reason(error)})") from error
    return Checkpoint(path, reader, errors, shapes, dtypes, set()), tree


class _Layers:
    """Collects the recurrent layers of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint, tree: Objects | None, options: dict[str, Any]) -> None:
        self.checkpoint, self.tree, self.options = checkpoint, tree, options
        self.results: dict[str, Result] = {}  # by name, in the order of the result
        self.in_order = False
        self.assumed: list[str] = []
        self.used: set[str] = set()  # arrays of converted layers
        self.taken: set[str] = set()  # and of other layers of TensorFlow 2
        self.aside: set[str] = set()  # arrays of optimizers

    def of_objects(self) -> None:
        """Add the layers of TensorFlow 2, found by the graph of saved objects."""
        if self.tree is None:
            return
        layers_by_path = {
            path: (layer, names) for path, layer, names in tf_objects.layers(self.tree, self.checkpoint.arrays, self.options)
        }
        paths, self.in_order = tf_objects.ordered(
            [path for path, (layer, _) in layers_by_path.items() if not isinstance(layer, str)]
        )
        paths += sorted(layers_by_path.keys() - set(paths))
        for path in paths:
            layer, names = layers_by_path[path]
            self.results[path] = layer
            self.taken |= names
            self.used |= set() if isinstance(layer, str) else names
        self.aside = self.checkpoint.shapes.keys() - tf_objects.model_variables(self.tree)
        if self.used:
            self.assumed += _defaults("a checkpoint states no options of Keras's layers", KERAS_DEFAULTS, self.options)

    def of_scopes(self, forget_bias: float | None) -> None:
        """Add the cells of TensorFlow 1. TensorFlow 2 may save these as objects too, with their full names."""
        arrays = {name: name for name in self.checkpoint.shapes}
        if self.tree is not None:
            taken = self.taken | self.aside
            variables = [
                (full, key) for key, full in self.tree.variables.values() if key in self.checkpoint.shapes.keys() - taken
            ]
            counts = Counter(full for full, _ in variables)
            arrays = {full: key for full, key in variables if counts[full] == 1}
            twice = {full.rpartition("/")[0] for full, count in counts.items() if count > 1}
            self.results |= {_free(scope, self.results): TWICE for scope in sorted(twice) if tf_scopes.sounds_recurrent(scope)}
        scopes = tf_scopes.scopes({name: len(self.checkpoint.shapes[key]) for name, key in arrays.items()})
        self.aside |= {arrays[name] for name in scopes.slots if not name.endswith("/ExponentialMovingAverage")}
        cells: dict[str, Result] = {}
        for scope, names in scopes.cells.items():
            reason = scopes.around.get(scope) or tf_scopes.unread(scope, names)
            cells[scope] = reason or self._cell(scope, {own: arrays[name] for own, name in names.items()}, forget_bias)
        layers = tf_scopes.joined(cells, self.options.get("merge", "concat"))
        names_of = tf_scopes.named(layers)
        for scope in sorted(layers, key=lambda scope: names_of[scope]):
            self.results[_free(names_of[scope], self.results)] = layers[scope].layer
        for scope, reason in scopes.leftover.items():
            self.results[_free(scope, self.results)] = reason
        converted = [cell for layer in layers.values() if not isinstance(layer.layer, str) for cell in layer.cells]
        self.in_order = self.in_order and not converted
        self.used |= {arrays[name] for scope in converted for name in scopes.cells[scope].values()}
        self._assume(converted, forget_bias)

    def _cell(self, scope: str, names: dict[str, str], forget_bias: float | None) -> Result:
        cell, options = tf_scopes.kind(scope), {name: value for name, value in self.options.items() if name != "merge"}
        if _RELU.search(scope):
            options = {"activation": "relu"} | options
        fixed = tf1_cells.CELLS[cell].fixed
        try:
            part = tf1_cells.part(cell, self.checkpoint.arrays(names), None if fixed else forget_bias, options)
        except RefusalError:
            raise
        except ValueError as error:
            return str(error)
        return layout.assemble([[part]])

    def _assume(self, scopes: Sequence[str], forget_bias: float | None) -> None:
        """Record the assumed options of TensorFlow 1 cells, and warn about cells that do not use the forget bias."""
        kinds = {tf_scopes.kind(scope) for scope in scopes}
        if not kinds:
            return
        if forget_bias is None and not all(tf1_cells.CELLS[kind].fixed for kind in kinds):
            self.assumed.append(FORGET_BIAS)
        elif forget_bias and (fixed := sorted(kind for kind in kinds if kind.startswith("cudnn_compatible_lstm"))):
            warnings.warn(
                f"{self.checkpoint.path}: forget_bias={forget_bias} is not used for {fixed[0]!r}, which adds none: leave it out",
                UserWarning,
                stacklevel=5,
            )
        defaults = TF1_DEFAULTS | ({"merge": "concat"} if any(_SIDE.search(scope) for scope in scopes) else {})
        self.assumed += _defaults("a checkpoint states no options of TensorFlow 1's cells", defaults, self.options)

    def result(self) -> FileLayers:
        """Return all collected layers."""
        layers = {name: layer for name, layer in self.results.items() if not isinstance(layer, str)}
        skipped = {name: reason for name, reason in self.results.items() if isinstance(reason, str)}
        unused = sorted(map(tf_objects.array_name, self.checkpoint.shapes.keys() - self.used - self.aside))
        return FileLayers(layers, in_network_order=self.in_order, skipped=skipped, assumed=self.assumed, unused=unused)


def _defaults(what: str, defaults: Mapping[str, str], options: Mapping[str, Any]) -> list[str]:
    """Return a sentence on the defaults that no option replaces, or nothing if there are none."""
    assumed = [f"{name} {value}" for name, value in defaults.items() if name not in options]
    return [f"{what}, so that its defaults are assumed: {', '.join(assumed)}"] if assumed else []


def _free(name: str, names: Mapping[str, Any]) -> str:
    """Return an unused name, with underscores appended: a layer and a scope of a checkpoint may share a name."""
    while name in names:
        name += "_"
    return name


def _escaped(name: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", name)
