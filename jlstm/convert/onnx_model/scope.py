"""The names of one graph of an ONNX model: the outermost, a branch of If, a body of a loop, or one call of a function.

A value's name is looked up in its graph, then in those around it. A function sees nothing but what it is called with.
https://onnx.ai/onnx/repo-docs/IR.html
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from jlstm.convert.onnx_model.reasons import UnsupportedError, quoted

if TYPE_CHECKING:
    from jlstm.convert.onnx_model.graph import Model

_LONGEST = 2000  # characters of a layer's name, with those of the graphs around it
_STANDARD = ("", "ai.onnx")

Key = tuple[str, str, str]  # what a node computes: domain, name, and a number of one of several functions of this name


class Source(NamedTuple):
    """Where a value comes from: a tensor, an output of a node, or, with neither, an input.

    Args:
        scope, name: the graph that has it, and its name there.
        tensor: a TensorProto of the file, if it is one.
        node, output: the node that computes it, if one does, and which of its outputs it is.
    """

    scope: "Scope"
    name: str
    tensor: Any = None
    node: Any = None
    output: int = 0


class Scope:
    """One graph, or one call of a function.

    Args:
        model: the model that it is of.
        nodes: in the order in which they run.
        path: the names of the graphs around it and its own, with a / after each.
        outer: the graph around it, whose names it sees.
        attributes: those of the call, for a function.
        arguments: what a function's inputs are where it is called.
    """

    def __init__(
        self,
        model: "Model",
        nodes: Any,
        *,
        tensors: Iterable[Any] = (),
        inputs: Iterable[str] = (),
        path: str = "",
        outer: "Scope | None" = None,
        attributes: Mapping[str, Any] | None = None,
        arguments: "Mapping[str, tuple[Scope, str]] | None" = None,
        is_branch: bool = False,
    ) -> None:
        if len(path) > _LONGEST:
            raise ValueError(f"{model.path} has graphs with names of more than {_LONGEST} characters: give them shorter ones")
        model.count(len(nodes) + 1)
        self.model, self.nodes, self.path, self.outer, self.is_branch = model, nodes, path, outer, is_branch
        self.inputs, self.arguments, self._attributes = frozenset(inputs), dict(arguments or {}), dict(attributes or {})
        tensors = list(tensors)
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.producers = {name: (node, k) for node in nodes for k, name in enumerate(node.output) if name}
        names = len(tensors) + sum(1 for node in nodes for name in node.output if name)
        if len(self.tensors | self.producers) != names:
            raise ValueError(f"{model.path} has two values of one name in a graph: export it again")

    def find(self, name: str) -> Source | None:
        """Return where a value comes from; None where a function is called without it.

        Raises:
            ValueError: nothing gives it.
        """
        scope: Scope | None = self
        inner = name
        while scope is not None and inner:
            if inner in scope.arguments:
                scope, inner = scope.arguments[inner]
            elif inner in scope.tensors:
                return Source(scope, inner, tensor=scope.tensors[inner])
            elif inner in scope.producers:
                node, output = scope.producers[inner]
                return Source(scope, inner, node=node, output=output)
            elif inner in scope.inputs:
                return Source(scope, inner)
            else:
                scope = scope.outer
        if not inner:
            return None
        raise ValueError(f"{self.model.path} has nothing that gives {quoted(name)}, which a node takes: export it again")

    def in_order(self) -> bool:
        """Whether each node stands behind those whose outputs it takes, as ONNX asks for."""
        ahead = set(self.producers)
        for node in self.nodes:
            if not ahead.isdisjoint(node.input):
                return False
            ahead.difference_update(node.output)
        return True

    def attributes(self, node: Any) -> dict[str, Any]:
        """Return a node's attributes, with those that it takes from its function's call.

        Raises:
            ValueError: one is there twice.
        """
        attributes_by_name: dict[str, Any] = {}
        for attribute in node.attribute:
            if attribute.name in attributes_by_name:
                raise ValueError(f"{self.model.path} has a node with {quoted(attribute.name)} twice: export it again")
            if not attribute.ref_attr_name:
                attributes_by_name[attribute.name] = attribute
            elif attribute.ref_attr_name in self._attributes:
                attributes_by_name[attribute.name] = self._attributes[attribute.ref_attr_name]
        return attributes_by_name

    def values(self, node: Any) -> dict[str, Any]:
        """Return a node's attributes as numbers, words, lists of these, or arrays.

        Raises:
            UnsupportedError: one is none of these.
            ValueError: as `attributes`.
        """
        return {name: self._value(attribute) for name, attribute in self.attributes(node).items()}

    def _value(self, attribute: Any) -> Any:
        types, helper = self.model.onnx.AttributeProto, self.model.onnx.helper
        name = quoted(attribute.name)
        if attribute.type == types.TENSOR:
            return self.model.tensors.array(attribute.t)
        if attribute.type not in (types.FLOAT, types.INT, types.STRING, types.FLOATS, types.INTS, types.STRINGS):
            raise UnsupportedError(f"the attribute {name} is neither a number nor a word: export it again")
        value = helper.get_attribute_value(attribute)
        try:
            if isinstance(value, bytes):
                return value.decode()
            return (
                [part.decode() if isinstance(part, bytes) else part for part in value]
                if not isinstance(value, int | float)
                else value
            )
        except UnicodeDecodeError as error:
            raise UnsupportedError(f"the attribute {name} has no text that can be read: export it again") from error

    def inner(self, graph: Any, name: str, *, is_branch: bool) -> "Scope":
        """Return the scope of a graph in a node's attribute."""
        return Scope(
            self.model,
            graph.node,
            tensors=graph.initializer,
            inputs=[value.name for value in graph.input] + [tensor.values.name for tensor in graph.sparse_initializer],
            path=f"{self.path}{name}/",
            outer=self,
            attributes=self._attributes,
            is_branch=self.is_branch or is_branch,
        )

    def call(self, node: Any, name: str) -> "Scope":
        """Return the scope of a function that a node calls."""
        function = self.model.functions[key(node)]
        node_inputs = list(node.input)
        return Scope(
            self.model,
            function.node,
            path=f"{self.path}{name}/",
            attributes={attribute.name: attribute for attribute in function.attribute_proto} | self.attributes(node),
            arguments={inner: (self, node_inputs[k] if k < len(node_inputs) else "") for k, inner in enumerate(function.input)},
            is_branch=self.is_branch,
        )


def key(node: Any, name: str = "") -> Key:
    """Return the identity of a node's operator or of a function: domain, name and overload."""
    return ("" if node.domain in _STANDARD else node.domain, name or node.op_type, node.overload)
