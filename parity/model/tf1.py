"""TensorFlow checkpoints: cells of TensorFlow 1, and Keras layers of TensorFlow 2 rebuilt from their shapes."""

import os
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from tf_keras.src.layers.rnn import legacy_cells

from parity.model import keras, keras_weights
from parity.model.leftovers import Contents, inside, sort_out
from parity.model.original import Original, Results
from parity.peers._keras import tf
from parity.values import rounded

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_OPTIMIZER = re.compile(r"(^|/)_?optimizer/|OPTIMIZER_SLOT|_CHECKPOINTABLE_OBJECT_GRAPH|save_counter")
_CELL_VARIABLE = re.compile(r"(?P<cell>.*?)/?(?P<role>((gates|candidate|projection)/)?(kernel|bias)|w_[ifo]_diag)")
# The default forget bias of each class, which TensorFlow adds at run time; None for a class that has none.
_KINDS = {"lstm_cell": 1.0, "basic_lstm_cell": 1.0, "cudnn_compatible_lstm_cell": 0.0, "gru_cell": None}


class Cell(NamedTuple):
    """A cell of a checkpoint.

    Args:
        kind: the name of its class in snake case, as in its scope: lstm_cell, gru_cell, ….
        weights: its variables by their names in the cell.
        depth: the number of its layer.
        backward: whether it runs backwards in time.
    """

    kind: str
    weights: dict[str, np.ndarray]
    depth: int
    backward: bool


def originals(
    path: str | os.PathLike[str], names: Collection[str], options: Mapping[str, Any]
) -> tuple[dict[str, Original], Contents]:
    """Read a checkpoint with TensorFlow.

    Args:
        path: the checkpoint, without `.index`.
        names: scopes of TensorFlow 1, or object paths of TensorFlow 2.
        options: what a checkpoint does not state: `forget_bias`, `activation`, clips; for Keras layers, their options.

    Returns:
        The layers by name, and what else the checkpoint holds.

    Raises:
        ValueError: the variables are not those of cells that TensorFlow has.
    """
    arrays, keras_module = dict(_arrays(str(path))), keras.framework("2", options)
    layers_by_name: dict[str, Original] = {}
    incomplete: dict[str, str] = {}
    for name in names:
        if any(inside(array_path, name) and array_path.endswith("/recurrent_kernel") for array_path in arrays):
            layer, used = keras_weights.layer(keras_module, arrays, name, options)
            layers_by_name[name] = keras.original(keras_module.__name__, layer, frozenset(used))
            continue
        variables = {array_path: array for array_path, array in arrays.items() if inside(array_path, name)}
        cells, used = _cells(variables, name)
        unknown = sorted({cell.kind for cell in cells} - _KINDS.keys())
        if unknown or not cells:
            incomplete[name] = f"parity does not run {unknown[0] if unknown else 'its cells'!r}, compare it by hand"
        else:
            dtype = next(iter(cells[0].weights.values())).dtype.name
            layers_by_name[name] = Original("tf1", dtype, "float64", partial(_run, cells, dict(options)), frozenset(used))
    contents = sort_out(_without_slots(arrays), {name: original.arrays for name, original in layers_by_name.items()})
    return layers_by_name, contents._replace(incomplete=contents.incomplete | incomplete)


def _arrays(path: str) -> Iterator[tuple[str, np.ndarray]]:
    reader = tf.train.load_checkpoint(path)
    for name, dtype in reader.get_variable_to_dtype_map().items():
        if dtype.is_floating and not _OPTIMIZER.search(name):
            yield name.removesuffix(_VALUE), np.asarray(reader.get_tensor(name))


def _without_slots(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Return the names of all variables, without optimizer slots, which are named after a variable and the optimizer."""
    parents = {name: f"/{name.rpartition('/')[0]}" for name in arrays}
    return [name for name, parent in parents.items() if not any(parent.endswith(f"/{variable}") for variable in arrays)]


def _cells(arrays: Mapping[str, np.ndarray], scope: str) -> tuple[list[Cell], list[str]]:
    """Return the cells of a scope, by layer and direction, and the names of their variables."""
    variables: dict[str, dict[str, str]] = {}
    for name in arrays:
        if match := _CELL_VARIABLE.fullmatch(name):
            variables.setdefault(match["cell"], {})[match["role"]] = name
    cells = []
    for cell, names_by_role in variables.items():
        # A scope has the name of the cell's class, with a number from the second one on.
        kind = re.sub(r"_\d+$", "", cell.rsplit("/", 1)[-1])
        # MultiRNNCell numbers its cells, cell_0, cell_1, …, and bidirectional_dynamic_rnn has the scopes fw and bw.
        numbers = re.findall(r"/cell_(\d+)(?=/)", cell.removeprefix(scope) or "/")
        weights = {role: arrays[name] for role, name in names_by_role.items()}
        if "kernel" in weights or "gates/kernel" in weights:
            cells.append((Cell(kind, weights, int(numbers[0]) if numbers else 0, "/bw/" in f"/{cell}/"), names_by_role.values()))
    # States are listed by layer, then by direction, forward first.
    cells.sort(key=lambda pair: (pair[0].depth, pair[0].backward))
    return [cell for cell, _ in cells], [name for _, names in cells for name in names]


def _run(
    cells: list[Cell], options: Mapping[str, Any], xs: np.ndarray, lengths: np.ndarray | None, dtype: str, weights_dtype: str
) -> Results:
    """Run each layer with `dynamic_rnn`: backward cells on reversed sequences, and both directions concatenated."""
    kind = tf.as_dtype(dtype)
    counts = np.full(len(xs), xs.shape[1]) if lengths is None else lengths
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        ys, states = tf.constant(xs, kind), []
        for depth in sorted({cell.depth for cell in cells}):
            sides = []
            for k, cell in enumerate(candidate for candidate in cells if candidate.depth == depth):
                module = _module(cell, options, kind, exact=weights_dtype == "float64")
                # Each sequence is reversed up to its length, so that its padding stays at the end.
                inputs = tf.reverse_sequence(ys, counts, seq_axis=1, batch_axis=0) if cell.backward else ys
                with tf.compat.v1.variable_scope(f"layer_{depth}_{k}"):
                    out, last = tf.compat.v1.nn.dynamic_rnn(module, inputs, sequence_length=counts, dtype=kind)
                sides.append(tf.reverse_sequence(out, counts, seq_axis=1, batch_axis=0) if cell.backward else out)
                states += [last.h, last.c] if hasattr(last, "c") else [last]
                _load(module, cell, options, session, weights_dtype, exact=weights_dtype == "float64")
            ys = tf.concat(sides, -1)  # forward before backward, as the cells are sorted
        outputs, last = session.run([ys, states])
    return Results([outputs.astype(np.float64)], [state.astype(np.float64) for state in last])


def _module(cell: Cell, options: Mapping[str, Any], kind: Any, *, exact: bool) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`tf.nn.rnn_cell.* is deprecated", UserWarning)  # it is what wrote the file
        return _legacy(cell, options, kind, exact=exact)


def _legacy(cell: Cell, options: Mapping[str, Any], kind: Any, *, exact: bool) -> Any:
    activation = getattr(tf.nn, options.get("activation", "tanh"))
    if cell.kind == "gru_cell":
        return legacy_cells.GRUCell(cell.weights["candidate/bias"].shape[0], activation=activation, dtype=kind)
    projection = cell.weights.get("projection/kernel")
    return legacy_cells.LSTMCell(
        cell.weights["bias"].shape[0] // 4,
        use_peepholes="w_f_diag" in cell.weights,
        num_proj=None if projection is None else projection.shape[1],
        cell_clip=options.get("cell_clip"),
        proj_clip=options.get("projection_clip"),
        forget_bias=0.0 if exact else _forget_bias(cell, options),
        activation=activation,
        dtype=kind,
    )


def _forget_bias(cell: Cell, options: Mapping[str, Any]) -> float:
    default = _KINDS[cell.kind] or 0.0
    # CudnnCompatibleLSTMCell has no such option: it adds nothing.
    return default if cell.kind.startswith("cudnn") or options.get("forget_bias") is None else options["forget_bias"]


def _load(module: Any, cell: Cell, options: Mapping[str, Any], session: Any, weights_dtype: str, *, exact: bool) -> None:
    """Set a cell's variables.

    With `exact` the forget bias is added to the bias in the file's precision, as a converter does.
    """
    weights = {name: array.copy() for name, array in cell.weights.items()}
    if exact and "bias" in weights:
        units = len(weights["bias"]) // 4
        # The third quarter, f of i j f o.
        weights["bias"][2 * units : 3 * units] += weights["bias"].dtype.type(_forget_bias(cell, options))
    for variable in module.variables:
        role = _CELL_VARIABLE.sub(r"\g<role>", variable.name.removesuffix(":0"))
        variable.load(rounded(weights[role], weights_dtype).astype(variable.dtype.as_numpy_dtype), session)
