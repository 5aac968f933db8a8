"""Layers of a model, built from their configurations and arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlstm.cell import Params
from jlstm.convert.keras_graph import recurrent
from jlstm.convert.keras_graph.calls import Node, Source, ends, in_order, nodes, sources
from jlstm.convert.keras_graph.graph import Graph
from jlstm.convert.keras_graph.operations import OPERATIONS, Operation, operation
from jlstm.convert.keras_graph.table import FIXED, KINDS, Kind
from jlstm.convert.keras_graph.values import Built, Call, Value
from jlstm.convert.keras_model.config import LayerConfig
from jlstm.convert.keras_model.described import array_names
from jlstm.convert.keras_model.options import LAYER, UnsupportedError, Version, quoted, require_known
from jlstm.convert.keras_model.places import is_generator
from jlstm.convert.keras_model.result import Result
from jlstm.convert.keras_model.sides import group_name, require_builtin

Config = Mapping[str, Any]
_MODELS = ("Functional", "Model", "Sequential")
_TRAINING = ("_initializer", "_regularizer", "_constraint")  # endings of options without an effect on what a layer computes


@dataclass(frozen=True)
class Place:
    """Where a layer is.

    Args:
        group: its group in a numbered file, such as "layers/dense_1".
        name: its name, behind those of the models around it: "outer/inner".
    """

    group: str
    name: str


@dataclass(frozen=True)
class Builder:
    """Builds the layers of one file.

    Args:
        result: the file, with its recurrent layers converted.
        version: the version of Keras that wrote it.
        dtype: the dtype of all layers; None for the dtypes in the file.
    """

    result: Result
    version: Version
    dtype: np.dtype | None

    def graph(self, entry: Config, place: Place) -> Graph:
        """Return the graph of a sequential or functional model.

        Args:
            entry: the model's entry in the configuration.
            place: where the model is; the groups and names of its layers begin with those of the place.

        Raises:
            ValueError: a layer is not known, or contradicts its weights. The message names it.
        """
        # `used` counts the groups of each class, since a numbered file calls them dense, dense_1, … in the order of the layers.
        config, used = entry["config"], dict[str, int]()
        models = {layer["config"].get("name") for layer in config["layers"] if self._is_shifted(layer)}
        layers: dict[str, Built] = {}
        operations: dict[str, Operation] = {}
        calls: list[Node] = []
        prefix, around = (f"{text}/" if text else "" for text in (place.group, place.name))
        for number, layer in enumerate(config["layers"]):
            name = layer["config"].get("name") or layer.get("name") or f"layer_{number}"
            is_operation = _is_operation(layer)
            # Operations have no weights, and so no group in the file.
            group = "" if is_operation else f"{prefix}layers/{group_name(layer['class_name'], used)}"
            try:
                if is_operation:
                    operations[name] = operation(layer["class_name"], layer["config"])
                else:
                    layers[name] = self.layer(layer, Place(group, f"{around}{name}"))
                if "inbound_nodes" in layer:
                    calls += nodes(layer, name, self.version, self._shifted(models), operation=is_operation)
            except UnsupportedError as error:
                raise self._refusal(f"{around}{name}", layer["class_name"], error) from error
        try:
            if entry["class_name"] == "Sequential":
                return _chain(layers)
            inputs, outputs = (ends(config[key], models) for key in ("input_layers", "output_layers"))
            # The inputs are known at the start. In Keras 2 an InputLayer has a call too, which computes nothing.
            calls = [node for node in calls if node.layer in operations or layers[node.layer].class_name != "InputLayer"]
            return Graph(layers, operations, tuple(in_order(calls, sources(inputs))), inputs, outputs)
        except UnsupportedError as error:
            raise self._refusal(place.name or str(config.get("name")), entry["class_name"], error) from error

    def whole(self, entry: Config) -> Graph:
        """Return the graph of the file's model. Errors are those of `graph`, and an UnsupportedError for a custom class."""
        require_builtin(entry)
        if entry["class_name"] not in _MODELS:
            raise UnsupportedError(f"it is a model of the class {quoted(entry['class_name'])}: save it as a functional model")
        return self.graph(entry, Place("", ""))

    def _is_shifted(self, entry: Config) -> bool:
        """Return whether calls of this layer are numbered from 1 in the list of outputs, since a model has a call of its own."""
        nested = "layers" in entry["config"]
        return nested and (self.version.major < 3 or entry["class_name"] != "Sequential")

    def _shifted(self, models: set[str]) -> set[str]:
        return models if self.version.major < 3 else set()

    def _refusal(self, name: str, class_name: str, reason: Exception) -> ValueError:
        message = f"{self.result.path} cannot be run: its layer {quoted(name)} is of class {quoted(class_name)}, and {reason}"
        return ValueError(message)

    def layer(self, entry: Config, place: Place) -> Built:
        """Return a layer.

        Raises:
            UnsupportedError: the layer, or one of its options, is not known.
            ValueError: the layer contradicts its weights, or a layer inside it is refused.
        """
        class_name, config = entry["class_name"], entry["config"]
        # A recurrent layer that the reader of layers refuses is refused here for the same reason.
        if place.name in self.result.skipped:
            raise UnsupportedError(self.result.skipped[place.name])
        if class_name == "Lambda":
            raise UnsupportedError("it is code, which is not run here: save the model without it, and write that code in JAX")
        require_builtin(entry)
        if "layers" in config and class_name in _MODELS:
            return self._model(entry, place)
        if class_name == "InputLayer":
            return _INPUT._replace(options=config)
        if place.name in self.result.converted:
            layer, params = self.result.converted[place.name]
            run = recurrent.make(layer, entry, self.version)
            return Built(class_name, config, params, _flags(params, _is_trained(config)), run, self._dtype(config))
        if class_name == "TimeDistributed":
            return self._time_distributed(config, place)
        if class_name not in KINDS:
            raise UnsupportedError(
                "it is not known here: run the layers before and behind it as two models, and write it in JAX between them"
            )
        kind = KINDS[class_name]
        require_known(config, LAYER | kind.options | {"activity_regularizer", *filter(_is_of_training, config)})
        for option, value in FIXED.items():
            if config.get(option, value) != value:
                raise UnsupportedError(f"it has {option}={quoted(config[option])}, which is not known here: save it without")
        dtype, params = self._dtype(config), self._params(kind, config, place)
        trainable = {name: _is_trained(config) and name not in kind.untrained for name in params}
        return Built(class_name, config, params, trainable, kind.make(config, self.version), dtype, kind.casts)

    def _model(self, entry: Config, place: Place) -> Built:
        """Return a nested model as one layer of the model around it, with its parameters by layer."""
        graph = self.graph(entry, place)
        params, trainable = parameters(graph.layers)
        trainable = trainable if _is_trained(entry["config"]) else _flags(params, trained=False)
        return Built(entry["class_name"], {}, params, trainable, graph.as_layer, inner=graph.layers)

    def _time_distributed(self, config: Config, place: Place) -> Built:
        """Return a layer that runs another one on each step, with the steps as a part of the batch."""
        # A numbered file has the arrays in the attribute `layer`, and a legacy file in the group of the wrapper itself.
        inner = self.layer(config["layer"], Place(f"{place.group}/layer", place.name))
        run = partial(_run_on_steps, inner)
        trainable = inner.trainable if _is_trained(config) else _flags(inner.params, trained=False)
        return Built("TimeDistributed", config, inner.params, trainable, run, inner={"layer": inner})

    def _params(self, kind: Kind, config: Config, place: Place) -> Params:
        """Read the arrays of a layer.

        Raises:
            ValueError: the file has others than the layer should have.
        """
        content = self.result.content
        expected = [name for name, option in kind.arrays.items() if not option or config[option]]
        layer = LayerConfig(place.group, place.name, recurrent=False, reason="")
        names = [name for name in array_names(self.result, layer) if not is_generator(content, name)]
        if expected and not names and not content.numbered and "/" in place.name:
            # A model inside of a TimeDistributed layer was built before it, so the names of its arrays lack that of the wrapper.
            group, *_, last = place.name.split("/")
            names = [name for name in self.result.weight_names(group) if last in name.split("/")[1:-1]]
        if content.numbered:
            arrays = {f"{place.group}/vars/{number}": name for number, name in enumerate(expected)}
        else:
            arrays = {array: array.rpartition("/")[2].removesuffix(":0") for array in names}
        # Neither an array too few nor one too many: the options of the layer say which it must have.
        if sorted(arrays.values()) != sorted(expected) or sorted(arrays) != sorted(names):
            shown = ", ".join(repr(name[-60:]) for name in names[:4]) or "none"
            raise ValueError(
                f"{self.result.path}: {quoted(place.name)} should have the arrays {', '.join(expected) or 'none'}, and the file "
                f"has {shown}: save the model again"
            )
        self.result.used.update(names)
        return {name: content.array(array) for array, name in sorted(arrays.items(), key=lambda item: expected.index(item[1]))}

    def _dtype(self, config: Config) -> np.dtype:
        """Return the dtype that a layer computes in.

        Raises:
            UnsupportedError: its policy is of 16 bits, or not known.
        """
        if self.dtype is not None:
            return self.dtype
        policy = config.get("dtype") or "float32"
        name = policy.get("config", {}).get("name") if isinstance(policy, Mapping) else policy
        if name not in ("float32", "float64"):
            raise UnsupportedError(f"it has the dtype policy {quoted(name)}: pass dtype='float32' to compute all layers in it")
        return jnp.dtype(name)


def parameters(layers: Mapping[str, Built]) -> tuple[Params, Any]:
    """Return the parameters of the layers that have any, by name, and the tree of those that Keras trains."""
    with_params = {name: layer for name, layer in layers.items() if jax.tree.leaves(layer.params)}
    params = {name: layer.params for name, layer in with_params.items()}
    return params, {name: layer.trainable for name, layer in with_params.items()}


def _run_on_steps(inner: Built, params: Params, call: Call) -> tuple[Value, ...]:
    x, mask = call.inputs[0]
    flat = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    # A mask of steps says nothing about what is inside of a step.
    flat_mask = None if mask is None or mask.ndim < 3 else mask.reshape(len(flat), *mask.shape[2:])
    outputs = inner(params, call._replace(inputs=(Value(flat, flat_mask),)))
    return tuple(Value(output.array.reshape(*x.shape[:2], *output.array.shape[1:]), mask) for output in outputs)


def _chain(layers: Mapping[str, Built]) -> Graph:
    """Return the graph of a sequential model: each layer is called with all outputs of the one before it."""
    first = next((name for name, layer in layers.items() if layer.class_name == "InputLayer"), None)
    inputs = Source(first or "", 0, 0)
    previous, calls = Source(inputs.layer, 0, None), []
    for name in layers:
        if name != first:
            calls.append(Node(name, 0, [previous]))
            previous = Source(name, 0, None)
    return Graph(layers, {}, tuple(calls), inputs, previous)


def _is_operation(entry: Config) -> bool:
    """Return whether an entry in the list of layers is an operation. Without its module, as in `.h5` files, its options tell."""
    if "module" in entry:
        return ".ops." in str(entry["module"]) or str(entry["module"]).endswith(".activations.activations")
    return entry["class_name"] in OPERATIONS and not {"trainable", "dtype"} & entry["config"].keys()


def _is_of_training(option: str) -> bool:
    return option.endswith(_TRAINING) or option == "quantization_config"


def _is_trained(config: Config) -> bool:
    return bool(config.get("trainable", True))


def _flags(params: Params, trained: bool) -> Any:
    return jax.tree.map(lambda _: trained, params)


_INPUT = Built("InputLayer", {}, {}, {}, lambda _, call: call.inputs)
