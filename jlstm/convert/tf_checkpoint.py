"""Conversion of TensorFlow checkpoints. TensorFlow itself reads the files.

Cells of TensorFlow 1 are found by the names of their variables, and layers of TensorFlow 2 by the graph of saved objects. Only
the arrays of recurrent layers are loaded.
"""

import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jlstm._src import checks
from jlstm.convert import files, layout, tf1_cells, tf_index, tf_object_graph, tf_objects, tf_scopes
from jlstm.convert.arrays import FLOATS
from jlstm.convert.files import RefusalError
from jlstm.convert.result import FileLayers
from jlstm.convert.tf_object_graph import Objects
from jlstm.convert.tf_scopes import Result

KERAS_DEFAULTS = {"activation": "tanh", "recurrent_activation": "sigmoid", "reverse": "False", "merge": "concat"}
TF1_DEFAULTS = {"activation": "tanh", "cell_clip": "None", "projection_clip": "None"}
FORGET_BIAS = "a checkpoint does not state the forget_bias that its LSTM cells add: their default, 1, is assumed"
TWICE = "several objects have variables of one name: pass those of each to load"
_SIDE = re.compile(r"(?:^|/)fw/")
# CudnnRNNRelu saves cells under the class name of a tanh cell. Only the scope around them tells the activation.
_RELU = re.compile(r"(?:^|/)cudnn_rnn_relu(?:_\d+)?/")


class Checkpoint(NamedTuple):
    """An open checkpoint.

    Attributes:
        path: the path of the checkpoint, without `.index` and `.data-…`.
        reader: TensorFlow's checkpoint reader.
        errors: the exceptions that the reader raises for a damaged checkpoint.
        shapes: the shapes of the variables by name.
        dtypes: the TensorFlow dtypes of the variables by name.
        loaded: the names of the variables that have been loaded so far.
    """

    path: Path
    reader: Any
    errors: tuple[type[Exception], ...]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, Any]
    loaded: set[str]

    def arrays(self, names: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Load variables.

        Args:
            names: for each name in the result, the variable's name in the checkpoint.

        Raises:
            RefusalError: the checkpoint is damaged, or declares more data than it holds.
            ValueError: a variable does not have a floating dtype.
        """
        available_bytes = sum(data.stat().st_size for data in self.path.parent.glob(f"{_escaped(self.path.name)}.data-*"))
        self.loaded.update(names.values())
        missing = next((name for name in names.values() if name not in self.shapes), None)
        if missing is not None:
            raise RefusalError(f"describes a variable {missing[:80]!r} that is not there")
        # This comes before any read, because TensorFlow aborts the process when it reads a variable of a reference dtype.
        unreadable = next((name for name in names.values() if self.dtypes[name].name not in FLOATS), None)
        if unreadable is not None:
            kind = self.dtypes[unreadable].name
            raise ValueError(
                f"it has {unreadable[-80:]!r} in {kind}, expected one of {', '.join(FLOATS)}: save weights of floats"
            )
        # TensorFlow allocates what the index declares. The sum over all loaded variables also bounds a small file whose index
        # gives the same bytes to many variables.
        declared_bytes = sum(
            int(np.prod(self.shapes[name], dtype=object)) * self.dtypes[name].size for name in self.loaded & self.shapes.keys()
        )
        if declared_bytes > available_bytes:
            raise RefusalError(f"declares {declared_bytes} bytes and holds {available_bytes}")
        try:
            return {result_name: self.reader.get_tensor(name) for result_name, name in names.items()}
        except self.errors as error:
            raise RefusalError(f"is not a whole checkpoint ({files.reason(error)})") from error


def read(path: str | os.PathLike[str], forget_bias: float | None, options: dict[str, Any]) -> FileLayers:
    """Return all recurrent layers of a checkpoint, also if there are none. The arguments are those of `tf1.read`.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ImportError: TensorFlow is not installed.
        ValueError: the checkpoint is damaged.
    """
    path = checks.path("path", path)
    if not Path(f"{path}.index").is_file():
        if path.is_dir():
            raise FileNotFoundError(
                f"{path} is a folder, expected a checkpoint: name one in it, without .index and .data-…, such as "
                "variables/variables in that of a SavedModel"
            )
        if path.is_file():
            files.refuse_other_kind(path, files.memory_map(path), "a checkpoint of TensorFlow")
        raise FileNotFoundError(f"there is no file {path}.index: give the checkpoint's name without .index and .data-…")
    try:
        checkpoint, tree = _open(path)
        layers = _Layers(checkpoint, tree, options)
        layers.add_objects()
        layers.add_scopes(forget_bias)
    except RefusalError as error:
        raise ValueError(f"{path} {error}: copy all its files") from error
    return layers.result()


def _open(path: Path) -> tuple[Checkpoint, Objects | None]:
    """Open a checkpoint, and parse its object graph if it has one.

    Raises:
        RefusalError: the checkpoint is damaged. The caller puts the path in front of the message.
    """
    tf = files.import_package("tensorflow", path)
    # The index is checked before TensorFlow reads it, because TensorFlow aborts the process on some damaged indices.
    has_objects = tf_index.check(Path(f"{path}.index"))
    message = files.import_package("tensorflow.core.protobuf.trackable_object_graph_pb2", path).TrackableObjectGraph
    decode_error = files.import_package("google.protobuf.message", path).DecodeError
    errors = tf.errors.OpError, RuntimeError, TypeError, ValueError, IndexError  # Python classes of TensorFlow's errors
    try:
        reader = tf.train.load_checkpoint(str(path))
        dtypes = reader.get_variable_to_dtype_map()
        shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items() if name != tf_index.GRAPH}
        tree = tf_object_graph.parse(reader.get_tensor(tf_index.GRAPH), message, shapes) if has_objects else None
    except (*errors, decode_error) as error:
        raise RefusalError(f"is not a whole checkpoint ({files.reason(error)})") from error
    return Checkpoint(path, reader, errors, shapes, dtypes, loaded=set()), tree


class _Layers:
    """Collects the recurrent layers of a checkpoint, first those of the object graph, then those found by scope.

    Attributes:
        results: the layers, or the reasons why they are skipped, by name in the order of the result.
        in_order: whether this is the order in which the network runs the layers.
        assumed: one sentence for each assumption.
        used: the names of the arrays of converted layers.
        object_arrays: the names of the arrays of all layers of the object graph, converted or skipped.
        optimizer_arrays: the names of the arrays of optimizers.
    """

    def __init__(self, checkpoint: Checkpoint, tree: Objects | None, options: dict[str, Any]) -> None:
        self.checkpoint, self.tree, self.options = checkpoint, tree, options
        self.results: dict[str, Result] = {}
        self.in_order = False
        self.assumed: list[str] = []
        self.used: set[str] = set()
        self.object_arrays: set[str] = set()
        self.optimizer_arrays: set[str] = set()

    def add_objects(self) -> None:
        """Add the layers of TensorFlow 2, found by the graph of saved objects."""
        if self.tree is None:
            return
        layers_by_path = {
            path: (layer, names) for path, layer, names in tf_objects.layers(self.tree, self.checkpoint.arrays, self.options)
        }
        paths, self.in_order = tf_objects.in_network_order(
            [path for path, (layer, _) in layers_by_path.items() if not isinstance(layer, str)]
        )
        paths += sorted(layers_by_path.keys() - set(paths))  # skipped layers come last
        for path in paths:
            layer, names = layers_by_path[path]
            self.results[path] = layer
            self.object_arrays |= names
            self.used |= set() if isinstance(layer, str) else names
        self.optimizer_arrays = self.checkpoint.shapes.keys() - tf_object_graph.model_variables(self.tree)
        if self.used:
            self.assumed += _defaults("a checkpoint states no options of Keras's layers", KERAS_DEFAULTS, self.options)

    def add_scopes(self, forget_bias: float | None) -> None:
        """Add the cells of TensorFlow 1, found by the scopes of their variables.

        TensorFlow 2 may save these cells too, in the object graph. The scopes are then in the full names of the variables.

        Args:
            forget_bias: the value that the LSTM cells add to the forget gate, or None for their default.
        """
        arrays = {name: name for name in self.checkpoint.shapes}  # the checkpoint's name of each variable by full name
        if self.tree is not None:
            assigned = self.object_arrays | self.optimizer_arrays
            variables = [
                (full, key) for key, full in self.tree.variables.values() if key in self.checkpoint.shapes.keys() - assigned
            ]
            # A full name is not unique: two objects that were built separately may use the same one.
            counts = Counter(full for full, _ in variables)
            arrays = {full: key for full, key in variables if counts[full] == 1}
            ambiguous_scopes = {full.rpartition("/")[0] for full, count in counts.items() if count > 1}
            self.results |= {
                _unique(scope, self.results): TWICE for scope in sorted(ambiguous_scopes) if tf_scopes.sounds_recurrent(scope)
            }
        scopes = tf_scopes.scopes({name: len(self.checkpoint.shapes[key]) for name, key in arrays.items()})
        # A moving average of a weight is no state of an optimizer, so it stays in `unused`.
        self.optimizer_arrays |= {arrays[name] for name in scopes.slots if not name.endswith("/ExponentialMovingAverage")}
        cells: dict[str, Result] = {}
        for scope, names in scopes.cells.items():
            reason = scopes.wrapped.get(scope) or tf_scopes.unsupported_reason(scope, names)
            cells[scope] = reason or self._cell(scope, {own_name: arrays[name] for own_name, name in names.items()}, forget_bias)
        layers = tf_scopes.combine(cells, self.options.get("merge", "concat"))
        names_of = tf_scopes.layer_names(layers)
        for scope in sorted(layers, key=lambda scope: names_of[scope]):
            self.results[_unique(names_of[scope], self.results)] = layers[scope].layer
        for scope, reason in scopes.unrecognized.items():
            self.results[_unique(scope, self.results)] = reason
        converted = [cell for layer in layers.values() if not isinstance(layer.layer, str) for cell in layer.cells]
        self.in_order = self.in_order and not converted  # scopes do not tell the order
        self.used |= {arrays[name] for scope in converted for name in scopes.cells[scope].values()}
        self._record_assumptions(converted, forget_bias)

    def _cell(self, scope: str, names: dict[str, str], forget_bias: float | None) -> Result:
        """Convert a TensorFlow 1 cell, or return the reason why it is skipped."""
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

    def _record_assumptions(self, scopes: Sequence[str], forget_bias: float | None) -> None:
        """Record the assumed options of TensorFlow 1 cells, and warn about cells that do not use the forget bias."""
        kinds = {tf_scopes.kind(scope) for scope in scopes}
        if not kinds:
            return
        if forget_bias is None and not all(tf1_cells.CELLS[kind].fixed for kind in kinds):
            self.assumed.append(FORGET_BIAS)
        elif forget_bias and (cudnn_cells := sorted(kind for kind in kinds if kind.startswith("cudnn_compatible_lstm"))):
            warnings.warn(
                f"{self.checkpoint.path}: forget_bias={forget_bias} is not used for {cudnn_cells[0]!r}, which adds none: "
                "leave it out",
                UserWarning,
                # Level 1 is this line, 2 `add_scopes`, 3 `read` in this file, 4 `tf1.read`, and 5 the caller of `tf1.read`.
                stacklevel=5,
            )
        defaults = TF1_DEFAULTS | ({"merge": "concat"} if any(_SIDE.search(scope) for scope in scopes) else {})
        self.assumed += _defaults("a checkpoint states no options of TensorFlow 1's cells", defaults, self.options)

    def result(self) -> FileLayers:
        """Return all collected layers."""
        layers = {name: layer for name, layer in self.results.items() if not isinstance(layer, str)}
        skipped = {name: reason for name, reason in self.results.items() if isinstance(reason, str)}
        unused = sorted(map(tf_objects.array_name, self.checkpoint.shapes.keys() - self.used - self.optimizer_arrays))
        return FileLayers(layers, in_network_order=self.in_order, skipped=skipped, assumed=self.assumed, unused=unused)


def _defaults(statement: str, defaults: Mapping[str, str], options: Mapping[str, Any]) -> list[str]:
    """Return a list of one sentence on the defaults that no option replaces, or an empty list if all are replaced."""
    assumed = [f"{name} {value}" for name, value in defaults.items() if name not in options]
    return [f"{statement}, so that its defaults are assumed: {', '.join(assumed)}"] if assumed else []


def _unique(name: str, names: Mapping[str, Any]) -> str:
    """Return a name that is not in `names`, with underscores appended if needed.

    A layer of the object graph and a scope of the same checkpoint may have the same name.
    """
    while name in names:
        name += "_"
    return name


def _escaped(name: str) -> str:
    """Return a file name in which `glob` matches every character literally."""
    return re.sub(r"([\[\]*?])", r"[\1]", name)
