"""Keras's recurrent layers in a TensorFlow 2 checkpoint, found by its graph of saved objects.

Each object has children by their names, and each variable the name of its array and the full name that it had, which ends in the
name of the cell: "encoder/lstm/lstm_cell/kernel". An object that can be reached on several paths is there once.

Reference: TensorFlow, tensorflow/core/protobuf/trackable_object_graph.proto.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from jlstm.convert import keras, layout, tf_scopes
from jlstm.convert.files import RefusalError
from jlstm.convert.tf_scopes import Made, Result

Arrays = Callable[[Mapping[str, str]], dict[str, np.ndarray]]  # of a checkpoint, by the names that are asked for

_SIDES = ("forward_layer", "backward_layer")
_WEIGHTS = ("kernel", "recurrent_kernel", "bias")
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_CELLS = {"lstm_cell": 4, "gru_cell": 3, "simple_rnn_cell": 1}  # with how many kernels of one unit's size
_OLD = {"lstm": 4, "gru": 3, "simple_rnn": 1}  # until TensorFlow 2.1, which named variables after the layer
_NUMBER = re.compile(r"_\d+$")
_ORDER = re.compile(r"(?P<model>.*)(?:layer_with_weights-|/_operations/|/_layers/)(?P<number>\d+)", re.DOTALL)
_LONGEST, _STEPS = 1024, 10_000  # letters of a path; objects that are looked at below one


class Objects(NamedTuple):
    """The objects of a checkpoint, by number: their children, their parents on the shortest path, and the variables."""

    children: list[dict[str, int]]
    parents: dict[int, tuple[int, str]]
    variables: dict[int, tuple[str, str]]  # the array's name, and the full name
    shapes: Mapping[str, tuple[int, ...]]  # of arrays by their names

    def path(self, number: int) -> str:
        """Return the shortest path to an object."""
        names: list[str] = []
        while number in self.parents:
            number, name = self.parents[number]
            names.append(name)
            if sum(map(len, names)) > _LONGEST:
                raise RefusalError("it has paths of more than a thousand letters")
        return "/".join(reversed(names))

    def below(self, number: int, without: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
        """Variables below an object, by the ends of their paths, but not below the children of some names."""
        seen = {number}
        queue = deque((name, child) for name, child in self.children[number].items() if name not in without)
        for _ in range(_STEPS):
            if not queue:
                return
            name, child = queue.popleft()
            if child in seen:
                continue
            seen.add(child)
            if child in self.variables:
                yield name, child
            queue.extend((f"{name[-80:]}/{last[-80:]}", inner) for last, inner in self.children[child].items())

    def named(self, number: int, without: tuple[str, ...] = ()) -> list[str]:
        """Names of the first few variables below an object."""
        return [name for name, _ in islice(self.below(number, (*without, "seed_generator")), 6)]

    def arrays(self, number: int) -> set[str]:
        """Return the names of the arrays below an object."""
        return {self.variables[child][0] for _, child in self.below(number)}


def objects(description: bytes, message: Any, shapes: Mapping[str, tuple[int, ...]]) -> Objects:
    """Parse the object graph of a checkpoint, a serialized `TrackableObjectGraph`.

    Raises:
        RefusalError: an object has a child that does not exist.
    """
    nodes = message.FromString(description).nodes
    children: list[dict[str, int]] = []
    variables = {}
    nothing: dict[str, int] = {}
    for number, node in enumerate(nodes):
        children.append({child.local_name: child.node_id for child in node.children} or nothing)
        if any(not 0 <= child < len(nodes) for child in children[-1].values()):
            raise RefusalError("the description of its objects has a child that is not there")
        for attribute in node.attributes:
            if attribute.name == "VARIABLE_VALUE":
                variables[number] = attribute.checkpoint_key, attribute.full_name
    return Objects(children, _shortest(children), variables, shapes)


def _shortest(children: list[dict[str, int]]) -> dict[int, tuple[int, str]]:
    parents: dict[int, tuple[int, str]] = {}
    queue = deque([0][: len(children)])
    while queue:
        number = queue.popleft()
        for name, child in children[number].items():
            if child and child not in parents:
                parents[child] = number, name
                queue.append(child)
    return parents


def model_variables(tree: Objects) -> set[str]:
    """Return the names of the arrays that are reachable without passing through an optimizer."""
    seen, queue, names = {0}, deque([0][: len(tree.children)]), set()
    while queue:
        number = queue.popleft()
        names |= {tree.variables[number][0]} if number in tree.variables else set()
        for name, child in tree.children[number].items():
            if child not in seen and name.strip("_") != "optimizer":
                seen.add(child)
                queue.append(child)
    return names


def layers(tree: Objects, arrays: Arrays, options: dict[str, Any]) -> Iterator[tuple[str, Result, set[str]]]:
    """Yield for each recurrent layer its path, the layer or the reason why it is skipped, and the names of its arrays."""
    cells = {number for number in tree.parents if _weights(tree, number).keys() & {"recurrent_kernel"}}
    holders = {number: child["cell"] for number, child in enumerate(tree.children) if _holds_cell(tree, number)}
    sides = {
        number: tuple(child.get(name) for name in _SIDES)
        for number, child in enumerate(tree.children)
        if any(child.get(name) in holders for name in _SIDES)
    }
    inner = {side for pair in sides.values() for side in pair}
    held = {cell for holder in holders.values() for cell in _stacked(tree, holder)}
    top = [*sides, *(holders.keys() - inner), *(cells - held)]
    for number in sorted(top):
        parts = [side for side in sides.get(number, (number,)) if side is not None]
        layer = _layer(tree, number, sides, holders, arrays, options)
        used = {
            array for part in parts for cell in _stacked(tree, holders.get(part, part)) for array in _weights(tree, cell).values()
        }
        yield tree.path(number) or "rnn", layer, tree.arrays(number) if isinstance(layer, str) else used


def _weights(tree: Objects, number: int) -> dict[str, str]:
    """Return the names of the arrays of an object's own variables."""
    return {name: tree.variables[child][0] for name, child in tree.children[number].items() if child in tree.variables}


def _stacked(tree: Objects, cell: int) -> list[int]:
    """Return the cells of a `StackedRNNCells`, the lowest first, or a list of the cell itself."""
    several = tree.children[cell].get("cells")
    if several is None:
        return [cell]
    return [tree.children[several][name] for name in sorted(tree.children[several], key=lambda name: (len(name), name))]


def _holds_cell(tree: Objects, number: int) -> bool:
    """Whether an object is a layer around a cell; the root, which was made of what was to be saved, is none."""
    cell = tree.children[number].get("cell") if number else None
    return cell is not None and cell not in tree.variables and "cell" not in tree.children[cell]


def _layer(
    tree: Objects, number: int, sides: Mapping[int, Any], holders: Mapping[int, int], arrays: Arrays, options: dict[str, Any]
) -> Result:
    try:
        parent = _wrapper(tree, number)
        if parent:
            return parent
        if number not in sides:
            return _one(tree, number, holders, arrays, options)
        forward, backward = (_side(tree, side, holders, arrays, options) for side in sides[number])
        if isinstance(forward, str) or isinstance(backward, str):
            return forward if isinstance(forward, str) else backward
        return tf_scopes.both(forward, backward, options.get("merge", "concat"))
    except RefusalError:
        raise
    except ValueError as error:
        return str(error)


def _side(tree: Objects, number: int | None, holders: Mapping[int, int], arrays: Arrays, options: dict[str, Any]) -> Result:
    if number is None or number not in holders:
        missing = "is not in the checkpoint" if number is None else "has no cell that jlstm reads"
        return f"one of its two directions {missing}: pass the weights of the other to keras.load"
    return _one(tree, number, holders, arrays, options)


def _wrapper(tree: Objects, number: int) -> str:
    """Why a layer inside another one, with variables of its own, is not what the other computes."""
    parent, name = tree.parents.get(number, (0, ""))
    extra = [variable for variable in _weights(tree, parent) if variable not in _WEIGHTS] if name == "layer" and parent else []
    return f"the layer around it has {extra[0][:80]!r} too: pass its weights to keras.load, as they are after it" if extra else ""


def _one(tree: Objects, number: int, holders: Mapping[int, int], arrays: Arrays, options: dict[str, Any]) -> Result:
    holder = holders.get(number)
    extra = [] if holder is None else tree.named(number, ("cell", "states", "state_spec", "keras_api"))
    if extra:
        return f"it has {', '.join(map(repr, extra[:3]))} beside its cell: pass the cell's weights to keras.load"
    converted = [
        _cell(tree, cell, holder is None, arrays, options) for cell in _stacked(tree, number if holder is None else holder)
    ]
    for layer in converted:
        if isinstance(layer, str):
            return layer
    return tf_scopes.stacked([layer for layer in converted if not isinstance(layer, str)])


def _cell(tree: Objects, number: int, alone: bool, arrays: Arrays, options: dict[str, Any]) -> Result:
    weights = _weights(tree, number)
    extra = [name for name in tree.named(number) if name not in _WEIGHTS]
    if not extra and not weights:  # Keras 3 does not tell TensorFlow of the cells in its StackedRNNCells
        return "its cell's variables are not described in the checkpoint: save the model as .keras"
    if extra or "recurrent_kernel" not in weights or "kernel" not in weights:
        listed = ", ".join(map(repr, extra[:3] or sorted(weights)[:3]))
        return f"its cell has {listed}, not the variables of an LSTM, GRU or SimpleRNN alone: make a layer of your own"
    full = tree.variables[tree.children[number]["recurrent_kernel"]][1]
    name = _NUMBER.sub("", full.rpartition("/")[0].rpartition("/")[2]).removeprefix("forward_").removeprefix("backward_")
    gates = _CELLS.get(name) or _OLD.get(name)
    if len(tree.shapes.get(weights["kernel"], ())) > 2:
        return "it is a ConvLSTM, whose strides and padding no checkpoint tells: make a jlstm.cells.ConvLSTMCell with its weights"
    if name.startswith("cu_dnn"):
        return f"it is a {name!r} layer, whose weights are in CuDNN's order: save the model as an LSTM or GRU layer"
    if gates is None:
        return (
            f"the name of its cell, {name[:80]!r}, does not tell the class: if it is Keras's own, pass its weights to keras.load"
        )
    # Since TensorFlow 2.2, variables of a layer are named after the layer and its cell. A cell alone was always named so.
    if (name in _OLD or alone) and gates > 1 and "recurrent_activation" not in options:
        return (
            "its gates are hard_sigmoid by default in TensorFlow 1 and sigmoid in 2, and its names are those of both: pass "
            "recurrent_activation='hard_sigmoid_0.2' or 'sigmoid'"
        )
    if gates == 3 and "bias" not in weights and "reset_after" not in options:
        return "it is a GRU without bias, which does not tell where it resets: pass reset_after=True, or False of TensorFlow 1"
    return _loaded(arrays({key: weights[key] for key in _WEIGHTS if key in weights}), gates, options)


def _loaded(weights: dict[str, np.ndarray], gates: int, options: dict[str, Any]) -> Made | str:
    kernel, recurrent_kernel = weights["kernel"], weights["recurrent_kernel"]
    units = len(recurrent_kernel) if recurrent_kernel.ndim else 0
    if kernel.shape[1:] != (gates * units,) or recurrent_kernel.shape != (units, gates * units):
        return (
            f"its cell's name tells {gates}·units columns, its kernels have shapes {kernel.shape} and {recurrent_kernel.shape}: "
            "save the model again"
        )
    dropped = {"merge", *(("recurrent_activation", "reset_after") if gates == 1 else ("reset_after",) if gates == 4 else ())}
    options = {name: value for name, value in options.items() if name not in dropped}
    if gates > 1:
        return keras.load(list(weights.values()), **options)
    if "bias" in weights and weights["bias"].shape != (units,):
        return f"its bias must have shape {(units,)}, got {weights['bias'].shape}: save the model again"
    return layout.assemble([[layout.rnn("RNN", units, weights, **options)]])


def ordered(paths: list[str]) -> tuple[list[str], bool]:
    """Return paths in the order in which the model runs the layers, and whether it is known; if not, paths are sorted."""
    matches = [_ORDER.fullmatch(path) for path in paths]
    if paths and all(matches) and len({match["model"] for match in matches if match}) == 1:
        return sorted(paths, key=lambda path: (len(path), path)), True
    return sorted(paths), False


def array_name(key: str) -> str:
    """Return the name of an array without the suffix that all variables have."""
    return key.removesuffix(_SUFFIX)
