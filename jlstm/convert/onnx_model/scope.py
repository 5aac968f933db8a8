"""Lookup of the names of values in one graph of an ONNX model.

The graph is the main graph, a branch of If, the body of a loop, or one call of a function. A name is looked up in its graph, then
in the graphs around it. A function sees only the arguments of its call.

Reference: https://onnx.ai/onnx/repo-docs/IR.html
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jlstm.convert.onnx_model.reasons import UnsupportedError, quoted
from jlstm.convert.onnx_model.tensors import Tensors

_MAX_NAME_LENGTH = 2000  # characters of a layer's name, with the names of the graphs around it
_STANDARD = ("", "ai.onnx")

Key = tuple[str, str, str]  # the identity of an operator or function: domain, name and overload


class Source(NamedTuple):
    """The source of a value: a tensor, an output of a node or, if both are None, an input of a graph.

    Attributes:
        scope: the graph that has the value.
        name: its name there.
        tensor: the TensorProto, if the value is a tensor of the file.
        node: the NodeProto that computes the value, if there is one.
        output: which of the node's outputs the value is.
    """

    scope: "Scope"
    name: str
    tensor: Any = None
    node: Any = None
    output: int = 0


class Owner(Protocol):
    """What a scope needs of the model that contains it, a `jlstm.convert.onnx_model.graph.Model`."""

    path: Path
    onnx: Any
    tensors: Tensors
    functions: dict[Key, Any]

    def count(self, steps: int) -> None:
        """Count steps, and raise ValueError if there are too many for the size of the file."""


class Scope:
    """One graph, or one call of a function.

    Args:
        model: the model that contains the graph.
        nodes: the nodes in the order in which they run.
        tensors: the tensors of the graph.
        inputs: the names of its inputs.
        path: its name after those of the graphs around it, with a slash after each.
        outer: the graph around it, whose names it sees.
        attributes: the attributes of the call of a function.
        arguments: for each input of a function, the graph and the name of the value that it is called with.
        is_branch: whether it is, or is inside, a branch of If.

    Raises:
        ValueError: the path is too long, or two values have the same name.
    """

    def __init__(
        self,
        model: Owner,
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
        if len(path) > _MAX_NAME_LENGTH:
            raise ValueError(
                f"{model.path} has graphs with names of more than {_MAX_NAME_LENGTH} characters: give them shorter ones"
            )
        model.count(len(nodes) + 1)
        self.model, self.nodes, self.path, self.outer, self.is_branch = model, nodes, path, outer, is_branch
        self.inputs, self.arguments, self._attributes = frozenset(inputs), dict(arguments or {}), dict(attributes or {})
        tensors = list(tensors)
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.producers = {name: (node, k) for node in nodes for k, name in enumerate(node.output) if name}
        # A dict keeps only one of two values with the same name, so the numbers then differ.
        names = len(tensors) + sum(1 for node in nodes for name in node.output if name)
        if len(self.tensors | self.producers) != names:
            raise ValueError(f"{model.path} has two values of one name in a graph: export it again")

    def find(self, name: str) -> Source | None:
        """Return the source of a value, or None if it is an input of a function that the call leaves out.

        Raises:
            ValueError: no graph has a value of this name.
        """
        scope: Scope | None = self
        inner = name
        while scope is not None and inner:
            if inner in scope.arguments:  # continue in the graph that calls this function, with the name there
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
        """Return whether each node comes after those whose outputs it takes, as the ONNX specification requires."""
        not_computed = set(self.producers)
        for node in self.nodes:
            if not not_computed.isdisjoint(node.input):
                return False
            not_computed.difference_update(node.output)
        return True

    def attributes(self, node: Any) -> dict[str, Any]:
        """Return a node's attributes. A reference to an attribute of the function is replaced by that of the call.

        Raises:
            ValueError: an attribute is there twice.
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
        """Return the values of a node's attributes: numbers, strings, lists of these, or arrays.

        Raises:
            UnsupportedError: an attribute has a value of another type, or a string that is not UTF-8.
            ValueError: an attribute is there twice.
        """
        return {name: self._value(attribute) for name, attribute in self.attributes(node).items()}

    def _value(self, attribute: Any) -> Any:
        """Return the value of an attribute.

        Raises:
            UnsupportedError: the attribute is not a number, a string, a list of these, or a tensor.
        """
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
            # Sparse tensors are not read. As inputs, they are known names without a value.
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
            # The defaults of the function's attributes, replaced by those of the call.
            attributes={attribute.name: attribute for attribute in function.attribute_proto} | self.attributes(node),
            arguments={inner: (self, node_inputs[k] if k < len(node_inputs) else "") for k, inner in enumerate(function.input)},
            is_branch=self.is_branch,
        )


def key(node: Any, name: str = "") -> Key:
    """Return the identity of a node's operator or of a function: domain, name and overload."""
    return ("" if node.domain in _STANDARD else node.domain, name or node.op_type, node.overload)
