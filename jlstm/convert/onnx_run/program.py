"""Turns a graph of an ONNX file into steps that JAX can run. What cannot be run is collected, and refused by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from jlstm.cell import Params
from jlstm.convert.onnx_model.folding import Constants, dtype_of
from jlstm.convert.onnx_model.graph import MAX_DEPTH, Model, label
from jlstm.convert.onnx_model.layers import RECURRENT, Layers, Node
from jlstm.convert.onnx_model.operators import OPERATORS
from jlstm.convert.onnx_model.reasons import UnsupportedError, operator_name, quoted
from jlstm.convert.onnx_model.scope import Scope, key
from jlstm.convert.onnx_run import arrays, elementwise, network, reductions
from jlstm.convert.onnx_run.graph import Compute, Graph, Step, branch_step, call_step, dropout_step, needed_steps, operator_step
from jlstm.convert.onnx_run.recurrent import STATES, recurrent_step
from jlstm.layers import Layer

TABLE = OPERATORS | elementwise.OPERATORS | arrays.OPERATORS | reductions.OPERATORS | network.OPERATORS
del TABLE["QuantizeLinear"]  # its rounding has no gradient: it is computed for constants only, by the converter of layers
_OLDEST = 7  # before that, Add and others aligned the axes of their inputs in another way

Load = Callable[[Model, str, Mapping[str, Any]], tuple[Layer, Params]]


class Program:
    """The steps and the parameters of a model.

    Args:
        model: the model.
        load: converts the weights and attributes of a recurrent node, `(model, name, weights) -> (layer, params)`.

    Attributes:
        graph: the main graph.
        params: the parameters: arrays by their names in the file, and those of recurrent nodes in jlstm's layout by the names of
            the nodes.
        averages: the names of the parameters that are running averages of BatchNormalization.
        layers: the recurrent layers by the same names.

    Raises:
        ValueError: the model has a part that cannot be run. The message names the first ones.
    """

    def __init__(self, model: Model, load: Load) -> None:
        self.params: dict[str, Any] = {}
        self.averages: set[str] = set()
        self.layers: dict[str, Layer] = {}
        self._model, self._load, self._nodes = model, load, Layers(model)
        self._name_by_place: dict[Any, str] = {}
        self._refused: dict[str, str] = {}
        self._dropouts = self._depth = 0
        versions = {entry.domain: entry.version for entry in model.proto.opset_import}
        self._opset = versions.get("", versions.get("ai.onnx", 1))
        if self._opset < _OLDEST:
            raise ValueError(
                f"{model.path} is of opset {self._opset}, expected {_OLDEST} or a newer one: convert it by onnx.version_converter"
            )
        self.graph = self._graph(model.main(), [output.name for output in model.proto.graph.output])
        if self._refused:
            listed = "; ".join(f"{quoted(name)} is {why}" for name, why in list(self._refused.items())[:4])
            more = f"; and {len(self._refused) - 4} more nodes" if len(self._refused) > 4 else ""
            raise ValueError(
                f"{model.path} cannot be run as a whole: {listed}{more}: export it without them, or read its recurrent layers by "
                "jlstm.convert.onnx.read and write the rest in JAX"
            )

    def _graph(self, scope: Scope, outputs: list[str]) -> Graph:
        """Return the steps of a graph that its outputs need.

        Raises:
            ValueError: the file is damaged, or its graphs are nested too deeply, as where a function calls itself.
        """
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(
                f"{self._model.path} has more than {MAX_DEPTH} graphs in one another: inline its functions, by onnx.inliner"
            )
        try:
            return self._needed(scope, outputs)
        finally:
            self._depth -= 1

    def _needed(self, scope: Scope, outputs: list[str]) -> Graph:
        if not scope.in_order():
            raise ValueError(f"{self._model.path} has nodes before those whose outputs they take: export it again")
        # From the last node to the first, so that each node is met after all that read its outputs. Nodes that nothing needs,
        # such as those that only fold weights, are not read at all: an unknown operator among them does not matter.
        needed, kept = set(outputs), []
        for k, node in reversed(list(enumerate(scope.nodes))):
            if not needed.isdisjoint(node.output):
                kept.append((label(node, k), node))
                needed |= self._reads(scope, node)
        steps = [step for name, node in reversed(kept) if (step := self._step(scope, name, node)) is not None]
        # Again, since a recurrent step does not read its weights, and a call only the arguments that its body needs.
        graph = Graph(needed_steps(steps, outputs), tuple(outputs))
        constants, params = {}, {}
        for name in [name for name in scope.tensors if name in graph.reads]:
            value = self._model.tensors.array(scope.tensors[name])
            # Whole numbers are sizes and indices, and a scalar is a constant such as an epsilon: neither is trained.
            if jnp.issubdtype(value.dtype, jnp.floating) and value.ndim:
                params[name] = scope.path + name
                self.params[scope.path + name] = value
            else:
                constants[name] = value
        for step in graph.steps:
            if step.operator == "BatchNormalization":
                self.averages |= {params[name] for name in step.inputs[3:] if name in params}
        return replace(graph, constants=constants, params=params)

    def _reads(self, scope: Scope, node: Any) -> set[str]:
        """Return the names of the values that a node takes. A recurrent node does not take its weights at run time."""
        if key(node)[:2] in RECURRENT and key(node) not in self._model.functions:
            return {name for name in self._recurrent_inputs(scope, node) if name}
        return set(_names(node))

    def _recurrent_inputs(self, scope: Scope, node: Any) -> tuple[str, ...]:
        """Return the inputs of a recurrent node with "" for its weights, and for initial states that are zero."""
        inputs, constants = list(node.input), Constants(set())
        for k in range(len(inputs)):
            is_state = k in STATES.values() and inputs[k]
            # Inputs 1, 2, 3 and 7 are W, R, B and the peepholes.
            if k in (1, 2, 3, 7) or (is_state and constants.initial_state_kind(scope, inputs[k]) == "zero"):
                inputs[k] = ""
        return tuple(inputs)

    def _step(self, scope: Scope, name: str, node: Any) -> Step | None:
        """Return the step of a node, or None if it cannot be run, which is recorded."""
        full_name, inputs, also_reads = scope.path + name, tuple(node.input), frozenset[str]()
        try:
            # First, since a model may define a function with the name of an operator.
            if key(node) in self._model.functions:
                inner = scope.call(node, name)
                function = self._model.functions[key(node)]
                body = self._graph(inner, list(function.output))
                compute = call_step(body, list(function.input))
                inputs = tuple(k if argument in body.reads else "" for k, argument in zip(inputs, function.input, strict=False))
            elif key(node)[:2] in RECURRENT:
                compute, inputs = self._recurrent(scope, full_name, node), self._recurrent_inputs(scope, node)
            elif key(node) == ("", "If", ""):
                branches = {part.name: scope.inner(part.g, f"{name}/{part.name}", is_branch=True) for part in node.attribute}
                if branches.keys() != {"then_branch", "else_branch"}:
                    raise UnsupportedError("without two branches")
                results = {part.name: [output.name for output in part.g.output] for part in node.attribute}
                graphs = [self._graph(branches[branch], results[branch]) for branch in ("then_branch", "else_branch")]
                # Branches see the values around them without naming them as inputs of the node.
                compute, also_reads = branch_step(*graphs), graphs[0].takes | graphs[1].takes
            else:
                compute = self._operator(scope, node)
        except UnsupportedError as error:
            self._refused[full_name] = f"a node of kind {operator_name(node.op_type)}, {error}"
            return None
        return Step(full_name, node.op_type, inputs, tuple(node.output), compute, also_reads)

    def _operator(self, scope: Scope, node: Any) -> Compute:
        """Return the function of an ordinary operator.

        Raises:
            UnsupportedError: there is no such operator here, or it lacks an attribute.
        """
        domain, kind, _ = key(node)
        if domain:
            raise UnsupportedError(f"of the domain {quoted(domain)}, which is not standard ONNX")
        if kind in ("Loop", "Scan"):
            raise UnsupportedError("whose body is a graph of its own, which jlstm does not run")
        if kind == "Dropout":
            self._dropouts += 1
            return dropout_step(self._dropouts, scope.values(node).get("ratio", 0.5))
        if kind not in TABLE:
            raise UnsupportedError("which jlstm does not have")
        attributes = scope.values(node)
        if kind == "Cast":
            attributes["to"] = dtype_of(scope, attributes.get("to"))
        if extra := TABLE[kind].unsupported(attributes):
            raise UnsupportedError(f"with an attribute {quoted(extra[0])} that jlstm does not have")
        return operator_step(TABLE[kind], attributes, len(node.output), self._opset)

    def _recurrent(self, scope: Scope, name: str, proto: Any) -> Compute:
        """Return the function of a recurrent node, and add its parameters. Calls of the same layer share them."""
        node = Node(name, proto, scope)
        place = self._nodes.place(node)
        weights = self._nodes.weights(node)
        # Nodes with the same weights are calls of one layer, and must have one set of parameters, or training would part them.
        if place not in self._name_by_place:
            unique = self._nodes.unique_name(name)
            self._name_by_place[place] = unique
            self.layers[unique], self.params[unique] = self._load(self._model, unique, weights)
        shared_name = self._name_by_place[place]
        self._check_states(scope, proto, self.layers[shared_name])
        return recurrent_step(self.layers[shared_name], shared_name, bool(weights.get("layout", 0)))

    def _check_states(self, scope: Scope, proto: Any, layer: Layer) -> None:
        """Refuse constant initial states of another number of units. They would not be missed if they are zero.

        Raises:
            UnsupportedError: the number is another one, as where PyTorch's exporter left out a projection.
        """
        units = layer.leaves()[0][1].features_out
        for k in STATES.values():
            if len(proto.input) > k and proto.input[k]:
                try:
                    state = Constants(set()).array(scope, proto.input[k])
                except UnsupportedError:
                    continue  # it is not constant, so its shape is checked when it is used
                if state.shape[-1:] != (units,):
                    raise UnsupportedError(
                        f"with {units} units, but an initial state of shape {state.shape}, as where PyTorch's exporter leaves "
                        "out the projection of an LSTM with proj_size"
                    )


def _names(node: Any) -> Iterator[str]:
    """Yield the names that a node and the graphs in its attributes take, also those that these graphs compute themselves."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield from (output.name for output in graph.output)
            for inner in graph.node:
                yield from _names(inner)
