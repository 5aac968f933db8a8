"""Parsing of the calls between the layers of a functional or sequential model."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from jlstm.convert.keras_model.options import UnsupportedError, Version, quoted


class Source(NamedTuple):
    """Where a value comes from.

    Attributes:
        layer: the name of the layer.
        call: which call of the layer, since a shared layer has several.
        output: which of its outputs; None for all, as a sequential model passes them on.
    """

    layer: str
    call: int
    output: int | None


class Node(NamedTuple):
    """One call of a layer or operation. Arguments are trees with a Source for each array, and other values as they are.

    Attributes:
        layer: the name of the layer.
        call: which call of the layer it is.
        args: the positional arguments.
        states: the initial states of a recurrent layer.
        mask: the mask, if the call states it; else None.
        others: further arguments of an operation.
    """

    layer: str
    call: int
    args: Any
    states: Any = ()
    mask: Source | None = None
    others: Mapping[str, Any] = {}

    @property
    def sources(self) -> list[Source]:
        """The sources of all arguments."""
        return sources((self.args, self.states, self.mask, dict(self.others)))


def is_source(value: Any) -> bool:
    """Return whether a value is a Source, for `jax.tree` functions, to which a NamedTuple is a tree."""
    return isinstance(value, Source)


def sources(tree: Any) -> list[Source]:
    """Return the sources in a tree, in the order in which Keras flattens it: dicts by sorted keys."""
    return [leaf for leaf in jax.tree.leaves(tree, is_leaf=is_source) if isinstance(leaf, Source)]


def nodes(entry: Mapping[str, Any], name: str, version: Version, models: set[str], *, operation: bool) -> list[Node]:
    """Return the calls of a layer of a functional model.

    Args:
        entry: the layer's entry in the configuration.
        name: the layer's name.
        version: the version of Keras.
        models: the names of the nested models. In Keras 2, their first call has the number 1.
        operation: whether it is an operation, which may have any arguments.

    Raises:
        UnsupportedError: a call has an argument that is not known.
        KeyError, TypeError or IndexError: the configuration is not as Keras writes it.
    """
    calls = []
    for number, data in enumerate(entry["inbound_nodes"]):
        if isinstance(data, Mapping):
            args, others = _keras_3(data["args"]), {key: _keras_3(value) for key, value in data["kwargs"].items()}
        else:
            shift = models if version.major < 3 else set()
            args, others = _keras_2(data, shift)
        calls.append(Node(name, number, args, others=others) if operation else _layer_call(name, number, args, others))
    return calls


def _layer_call(name: str, number: int, args: Any, others: dict[str, Any]) -> Node:
    """Return the call of a layer.

    Raises:
        UnsupportedError: it has an argument beside the inputs, initial states, a mask and `training`.
    """
    # `training=False` is Keras's default, which it records, and which a call of the whole model overrides.
    if others.pop("training", None):
        raise UnsupportedError("it is called with training=True: save the model without it, and pass a key")
    states, mask = others.pop("initial_state", None), others.pop("mask", None)
    inputs = [args, {key: others.pop(key) for key in ("inputs", "sequences") if key in others}]
    unknown = next((key for key, value in others.items() if value is not None), None)
    if unknown is not None:
        raise UnsupportedError(f"it is called with the argument {quoted(unknown)}, which is not known here: save it without")
    if any(not isinstance(leaf, Source) for leaf in jax.tree.leaves(inputs, is_leaf=is_source)):
        raise UnsupportedError("it is called with a constant: make the constant an input of the model")
    # Merging layers are called with a list of inputs, and with a list of masks. These come with the inputs anyway.
    return Node(name, number, inputs, states or (), mask if isinstance(mask, Source) else None)


def _keras_3(value: Any) -> Any:
    """Replace the tensors in arguments by their sources, and serialized slices by slices."""
    if isinstance(value, Mapping):
        config: Any = value.get("config")
        if value.get("class_name") == "__keras_tensor__":
            return Source(*config["keras_history"])
        if value.get("class_name") == "__slice__":
            return slice(config["start"], config["stop"], config["step"])
        if value.get("class_name") == "__tuple__":
            return tuple(_keras_3(item) for item in value["config"]["value"] if item is not None)
        return {key: _keras_3(item) for key, item in value.items()}
    return [_keras_3(item) for item in value] if isinstance(value, list) else value


def _keras_2(data: Any, models: set[str]) -> tuple[list[Source], dict[str, Any]]:
    """Return the arguments of a call that Keras 2 wrote as a list of [layer, call, output, further arguments].

    Raises:
        UnsupportedError: the call has constants or a nested structure of inputs.
    """
    entries = data if isinstance(data, list) and data and isinstance(data[0], list) else [data]
    if not all(isinstance(entry, list) and len(entry) in (3, 4) and isinstance(entry[0], str) for entry in entries):
        raise UnsupportedError("it is called with a dict or constants: save the model with Keras 3, or with lists of inputs")
    others = entries[0][3] if len(entries[0]) == 4 else {}
    args = [source(entry[:3], models) for entry in entries]
    return args, {key: _keras_2_argument(value, models) for key, value in others.items()}


def _keras_2_argument(value: Any, models: set[str]) -> Any:
    if isinstance(value, list):
        is_tensor = len(value) == 3 and isinstance(value[0], str)
        return source(value, models) if is_tensor else [_keras_2_argument(item, models) for item in value]
    return value


def source(entry: list[Any], models: set[str]) -> Source:
    """Return the source for [layer, call, output]. The calls of `models` are numbered from 1."""
    layer, call, output = entry
    return Source(layer, call - (layer in models), output)


def ends(entry: Any, models: set[str]) -> Any:
    """Return the inputs or outputs of a model as a tree of sources. A list of a single one becomes this one, as in Keras."""
    if isinstance(entry, Mapping):
        return {key: ends(value, models) for key, value in entry.items()}
    if len(entry) == 3 and isinstance(entry[0], str):
        return source(entry, models)
    items = [ends(item, models) for item in entry]
    return items[0] if len(items) == 1 else items


def in_order(pending: list[Node], inputs: list[Source]) -> list[Node]:
    """Return nodes in an order in which each is behind those that it takes its arguments from.

    Args:
        pending: the nodes.
        inputs: the sources that are known at the start.

    Raises:
        UnsupportedError: a node takes an argument from a call that does not exist, or from itself.
    """
    # A file lists the layers in the order in which they were made, which need not be that of the calls of a shared layer.
    known, ordered = {(source.layer, source.call) for source in inputs}, []
    while pending:
        ready = [node for node in pending if all((source.layer, source.call) in known for source in node.sources)]
        if not ready:
            raise UnsupportedError(
                f"its call of {quoted(pending[0].layer)} takes inputs from no other call: save the model again"
            )
        known |= {(node.layer, node.call) for node in ready}
        ordered += ready
        pending = [node for node in pending if (node.layer, node.call) not in known]
    return ordered
