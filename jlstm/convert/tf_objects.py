"""Search for Keras's recurrent layers in the object graph of a TensorFlow 2 checkpoint.

The part before the last of a variable's full name, such as "encoder/lstm/lstm_cell/kernel", is the name of the cell, which tells
the cell's class.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jlstm.convert import keras, layout, tf_scopes
from jlstm.convert.files import RefusalError
from jlstm.convert.tf_object_graph import Objects
from jlstm.convert.tf_scopes import LayerAndParams, Result

# Loads arrays of the checkpoint. It maps {name in the result: name in the checkpoint} to {name in the result: array}.
Loader = Callable[[Mapping[str, str]], dict[str, np.ndarray]]

_SIDES = ("forward_layer", "backward_layer")
_WEIGHTS = ("kernel", "recurrent_kernel", "bias")
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_GATES_BY_CELL = {"lstm_cell": 4, "gru_cell": 3, "simple_rnn_cell": 1}  # blocks of `units` columns in the kernel
_GATES_BY_LAYER = {"lstm": 4, "gru": 3, "simple_rnn": 1}  # TensorFlow up to 2.1 names variables after the layer, not the cell
_NUMBER = re.compile(r"_\d+$")
_ORDER = re.compile(r"(?P<model>.*)(?:layer_with_weights-|/_operations/|/_layers/)(?P<number>\d+)", re.DOTALL)


def layers(tree: Objects, load: Loader, options: dict[str, Any]) -> Iterator[tuple[str, Result, set[str]]]:
    """Convert all recurrent layers of a checkpoint.

    Args:
        tree: the object graph.
        load: loads arrays of the checkpoint by name.
        options: options of `keras.load` for all layers that have them.

    Yields:
        For each layer its path, the layer or the reason why it is skipped, and the names of the arrays that it takes.

    Raises:
        RefusalError: the checkpoint is damaged.
    """
    cells = {number for number in tree.parents if _weights(tree, number).keys() & {"recurrent_kernel"}}
    # {layer in one direction: its cell, which may be a StackedRNNCells}
    layer_cells = {number: child["cell"] for number, child in enumerate(tree.children) if _is_layer_with_cell(tree, number)}
    # {Bidirectional: its two layers; None for one that is missing}
    sides = {
        number: tuple(child.get(name) for name in _SIDES)
        for number, child in enumerate(tree.children)
        if any(child.get(name) in layer_cells for name in _SIDES)
    }
    inner = {side for pair in sides.values() for side in pair}
    cells_in_layers = {cell for layer_cell in layer_cells.values() for cell in _cells_of(tree, layer_cell)}
    # Bidirectional layers, layers that are no direction of one, and cells outside any layer.
    top_level = [*sides, *(layer_cells.keys() - inner), *(cells - cells_in_layers)]
    for number in sorted(top_level):
        parts = [side for side in sides.get(number, (number,)) if side is not None]
        layer = _layer(tree, number, sides, layer_cells, load, options)
        used_cells = [cell for part in parts for cell in _cells_of(tree, layer_cells.get(part, part))]
        used = {array for cell in used_cells for array in _weights(tree, cell).values()}
        # A skipped layer takes all arrays below it, so that the search by scopes does not find its cells a second time.
        yield tree.path(number) or "rnn", layer, tree.arrays(number) if isinstance(layer, str) else used


def _weights(tree: Objects, number: int) -> dict[str, str]:
    """Return the names of the arrays of the variables that are direct children of an object, by attribute name."""
    return {name: tree.variables[child][0] for name, child in tree.children[number].items() if child in tree.variables}


def _cells_of(tree: Objects, cell: int) -> list[int]:
    """Return the cells of a `StackedRNNCells`, the lowest first. Any other cell is returned as a list of itself."""
    stack = tree.children[cell].get("cells")
    if stack is None:
        return [cell]
    # The names end in positions. Shorter names come first, because "10" is above "2".
    return [tree.children[stack][name] for name in sorted(tree.children[stack], key=lambda name: (len(name), name))]


def _is_layer_with_cell(tree: Objects, number: int) -> bool:
    """Return whether an object is a layer that runs a cell in one direction, such as Keras's LSTM and RNN."""
    # The root is no layer: its children have the names of the arguments of `tf.train.Checkpoint`, which may be "cell".
    cell = tree.children[number].get("cell") if number else None
    return cell is not None and cell not in tree.variables and "cell" not in tree.children[cell]


def _layer(
    tree: Objects, number: int, sides: Mapping[int, Any], layer_cells: Mapping[int, int], load: Loader, options: dict[str, Any]
) -> Result:
    """Convert a layer, or a cell without a layer, or return the reason why it is skipped.

    Args:
        tree: the object graph.
        number: the layer or cell.
        sides: the two layers of each Bidirectional.
        layer_cells: the cell of each layer in one direction.
        load: loads arrays of the checkpoint by name.
        options: as for `layers`.

    Raises:
        RefusalError: the checkpoint is damaged.
    """
    try:
        obstacle = _wrapper_obstacle(tree, number)
        if obstacle:
            return obstacle
        if number not in sides:
            return _single_direction(tree, number, layer_cells, load, options)
        forward, backward = (_direction(tree, side, layer_cells, load, options) for side in sides[number])
        if isinstance(forward, str) or isinstance(backward, str):
            return forward if isinstance(forward, str) else backward
        return tf_scopes.bidirectional(forward, backward, options.get("merge", "concat"))
    except RefusalError:  # the checkpoint as a whole is damaged
        raise
    except ValueError as error:
        return str(error)


def _direction(
    tree: Objects, number: int | None, layer_cells: Mapping[int, int], load: Loader, options: dict[str, Any]
) -> Result:
    if number is None or number not in layer_cells:
        missing = "is not in the checkpoint" if number is None else "has no cell that jlstm reads"
        return f"one of its two directions {missing}: pass the weights of the other to keras.load"
    return _single_direction(tree, number, layer_cells, load, options)


def _wrapper_obstacle(tree: Objects, number: int) -> str:
    """Return why a layer cannot be taken out of the wrapper around it; "" if it can or if there is no wrapper.

    A wrapper with variables of its own, such as a weight normalization, may change the weights that its layer runs with.
    """
    parent, name = tree.parents.get(number, (0, ""))
    extra = [variable for variable in _weights(tree, parent) if variable not in _WEIGHTS] if name == "layer" and parent else []
    return f"the layer around it has {extra[0][:80]!r} too: pass its weights to keras.load, as they are after it" if extra else ""


def _single_direction(
    tree: Objects, number: int, layer_cells: Mapping[int, int], load: Loader, options: dict[str, Any]
) -> Result:
    """Convert a layer of one direction, with one or several cells, or return the reason why it is skipped."""
    layer_cell = layer_cells.get(number)  # None for a cell without a layer
    extra = [] if layer_cell is None else tree.variable_names(number, ("cell", "states", "state_spec", "keras_api"))
    if extra:
        return f"it has {', '.join(map(repr, extra[:3]))} beside its cell: pass the cell's weights to keras.load"
    converted = [
        _convert_cell(tree, cell, layer_cell is None, load, options)
        for cell in _cells_of(tree, number if layer_cell is None else layer_cell)
    ]
    for layer in converted:
        if isinstance(layer, str):
            return layer
    return tf_scopes.stacked([layer for layer in converted if not isinstance(layer, str)])


def _convert_cell(tree: Objects, number: int, alone: bool, load: Loader, options: dict[str, Any]) -> Result:
    """Convert one cell. `alone` states that the cell is in no layer."""
    weights = _weights(tree, number)
    extra = [name for name in tree.variable_names(number) if name not in _WEIGHTS]
    if not extra and not weights:  # Keras 3 does not tell TensorFlow of the cells in its StackedRNNCells
        return "its cell's variables are not described in the checkpoint: save the model as .keras"
    if extra or "recurrent_kernel" not in weights or "kernel" not in weights:
        listed = ", ".join(map(repr, extra[:3] or sorted(weights)[:3]))
        return f"its cell has {listed}, not the variables of an LSTM, GRU or SimpleRNN alone: make a layer of your own"
    # Keras appends a number to a name that is in use, and Bidirectional renames its two layers.
    full = tree.variables[tree.children[number]["recurrent_kernel"]][1]
    name = _NUMBER.sub("", full.rpartition("/")[0].rpartition("/")[2]).removeprefix("forward_").removeprefix("backward_")
    gates = _GATES_BY_CELL.get(name) or _GATES_BY_LAYER.get(name)
    if len(tree.shapes.get(weights["kernel"], ())) > 2:
        return "it is a ConvLSTM, whose strides and padding no checkpoint tells: make a jlstm.cells.ConvLSTMCell with its weights"
    if name.startswith("cu_dnn"):
        return f"it is a {name!r} layer, whose weights are in CuDNN's order: save the model as an LSTM or GRU layer"
    if gates is None:
        return (
            f"the name of its cell, {name[:80]!r}, does not tell the class: if it is Keras's own, pass its weights to keras.load"
        )
    # The name "lstm_cell" inside a layer means TensorFlow 2.2 or later, whose gates are sigmoid. Older versions name these
    # variables after the layer only. Variables of a cell without a layer have the same names in all versions.
    if (name in _GATES_BY_LAYER or alone) and gates > 1 and "recurrent_activation" not in options:
        return (
            "its gates are hard_sigmoid by default in TensorFlow 1 and sigmoid in 2, and its names are those of both: pass "
            "recurrent_activation='hard_sigmoid_0.2' or 'sigmoid'"
        )
    if gates == 3 and "bias" not in weights and "reset_after" not in options:
        return "it is a GRU without bias, which does not tell where it resets: pass reset_after=True, or False of TensorFlow 1"
    return _load_cell(load({key: weights[key] for key in _WEIGHTS if key in weights}), gates, options)


def _load_cell(weights: dict[str, np.ndarray], gates: int, options: dict[str, Any]) -> LayerAndParams | str:
    """Convert the weights of a cell, after a check that they have the number of gates that the cell's name states."""
    kernel, recurrent_kernel = weights["kernel"], weights["recurrent_kernel"]
    units = len(recurrent_kernel) if recurrent_kernel.ndim else 0
    if kernel.shape[1:] != (gates * units,) or recurrent_kernel.shape != (units, gates * units):
        return (
            f"its cell's name tells {gates}·units columns, its kernels have shapes {kernel.shape} and {recurrent_kernel.shape}: "
            "save the model again"
        )
    # `options` are for all layers of the checkpoint, so those that this kind of layer does not have are left out.
    dropped = {"merge", *(("recurrent_activation", "reset_after") if gates == 1 else ("reset_after",) if gates == 4 else ())}
    options = {name: value for name, value in options.items() if name not in dropped}
    if gates > 1:
        return keras.load(list(weights.values()), **options)
    if "bias" in weights and weights["bias"].shape != (units,):
        return f"its bias must have shape {(units,)}, got {weights['bias'].shape}: save the model again"
    return layout.assemble([[layout.rnn("RNN", units, weights, **options)]])


def in_network_order(paths: list[str]) -> tuple[list[str], bool]:
    """Return paths in the order in which the model runs the layers, and whether it is known; if not, paths are sorted.

    Keras numbers the layers of a Sequential or functional model, as in "layer_with_weights-0/…". The order is known if all paths
    have such a number in the same model.
    """
    matches = [_ORDER.fullmatch(path) for path in paths]
    if paths and all(matches) and len({match["model"] for match in matches if match}) == 1:
        return sorted(paths, key=lambda path: (len(path), path)), True  # by length first: 10 comes after 2
    return sorted(paths), False


def array_name(key: str) -> str:
    """Return the name of an array without the suffix that all variables have."""
    return key.removesuffix(_SUFFIX)
