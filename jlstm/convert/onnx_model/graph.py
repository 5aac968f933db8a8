"""The graphs of an ONNX model: the outermost, branches of If, bodies of loops, and functions, each with names of its own.

A value's name is looked up in its graph, then in those around it. A function sees nothing but what it is called with.
https://onnx.ai/onnx/repo-docs/IR.html
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jlstm.convert import files
from jlstm.convert.onnx_model.reasons import UnsupportedError, quoted
from jlstm.convert.onnx_model.tensors import Tensors

_DEEPEST = 64  # graphs in graphs and functions in functions
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
        found: dict[str, Any] = {}
        for attribute in node.attribute:
            if attribute.name in found:
                raise ValueError(f"{self.model.path} has a node with {quoted(attribute.name)} twice: export it again")
            if not attribute.ref_attr_name:
                found[attribute.name] = attribute
            elif attribute.ref_attr_name in self._attributes:
                found[attribute.name] = self._attributes[attribute.ref_attr_name]
        return found

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
        """The scope of a graph in a node's attribute."""
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
        """The scope of a function that a node calls."""
        function = self.model.functions[key(node)]
        given = list(node.input)
        return Scope(
            self.model,
            function.node,
            path=f"{self.path}{name}/",
            attributes={attribute.name: attribute for attribute in function.attribute_proto} | self.attributes(node),
            arguments={inner: (self, given[k] if k < len(given) else "") for k, inner in enumerate(function.input)},
            is_branch=self.is_branch,
        )


class Model:
    """A model's file.

    Attributes:
        path: the file.
        onnx: the package.
        tensors: reads its tensors.
        functions: those that the model brings with it.
        scopes: the graphs and calls that were walked through.

    Raises:
        ImportError: onnx is not installed.
        ValueError: it is no ONNX file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.onnx = path, files.needed("onnx", path)
        decode_error = files.needed("google.protobuf.message", path).DecodeError
        content = path.read_bytes()
        if content[4:8] == b"ORTM":
            raise ValueError(f"{path} is of ONNX Runtime's own format: read the .onnx file that it was made from")
        try:
            self.proto = self.onnx.load_model_from_string(content)
        except decode_error as error:
            raise ValueError(f"{path} is not a whole ONNX file: export it again") from error
        if not _is_text(self.proto):
            raise ValueError(f"{path} is damaged, it has a name that is not text: export it again")
        self.tensors = Tensors(self.onnx, path)
        self.functions: dict[Key, Any] = {key(function, function.name): function for function in self.proto.functions}
        self.scopes: list[Scope] = []
        self._steps = self._kept = 0

    def count(self, steps: int) -> None:
        """Count what takes some microseconds each: a node that is looked at, or four kilobytes that are computed.

        Raises:
            ValueError: they are too many for a file of this size, as functions that call others many times can make them.
        """
        self._steps += steps
        if self._steps > 10_000 + 4 * self.tensors.size:
            raise ValueError(f"{self.path} takes far longer to read than its size justifies: simplify it, by onnxsim")

    def keep(self, size: int) -> None:
        """Count the bytes of weights that are kept.

        Raises:
            ValueError: they are too many for a file of this size, as nodes that share a tensor can make them.
        """
        self._kept += size
        if self._kept > (1 << 20) + 24 * self.tensors.size:
            raise ValueError(f"{self.path} has layers that are far larger than the file: load their weights one by one")

    def nodes(self, wanted: Any) -> Iterator[tuple[str, Any, Scope]]:
        """Yield all nodes with their names, in the order in which they run; those in functions only if `wanted` takes one there.

        Args:
            wanted: whether a node is looked for.

        Raises:
            ValueError: graphs are nested too deeply, or names are too long.
        """
        graph = self.proto.graph
        inputs = [value.name for value in graph.input] + [tensor.values.name for tensor in graph.sparse_initializer]
        main = Scope(self, graph.node, tensors=graph.initializer, inputs=inputs)
        yield from self._walk(main, self._functions_with(wanted), 0)

    def _walk(self, scope: Scope, functions: set[Key], depth: int) -> Iterator[tuple[str, Any, Scope]]:
        if depth > _DEEPEST:
            raise ValueError(f"{self.path} has more than {_DEEPEST} graphs in one another: inline its functions, by onnx.inliner")
        self.scopes.append(scope)
        for k, node in enumerate(scope.nodes):
            name = label(node, k)
            if key(node) in self.functions:
                if key(node) in functions:
                    yield from self._walk(scope.call(node, name), functions, depth + 1)
                continue
            yield scope.path + name, node, scope
            for which, graph in _graphs(node):
                inner = scope.inner(graph, f"{name}/{which}", is_branch=node.op_type == "If")
                yield from self._walk(inner, functions, depth + 1)

    def _functions_with(self, wanted: Any) -> set[Key]:
        """The functions that have such a node, or call one that has."""
        callers: dict[Key, set[Key]] = defaultdict(set)
        found = set()
        for name, function in self.functions.items():
            for node in _all(function.node):
                callers[key(node)].add(name)
                if key(node) not in self.functions and wanted(node):
                    found.add(name)
        new = list(found)
        while new:
            more = callers[new.pop()] - found
            found |= more
            new += more
        return found


def key(node: Any, name: str = "") -> Key:
    """What a node computes, or a function is called by."""
    return ("" if node.domain in _STANDARD else node.domain, name or node.op_type, node.overload)


def label(node: Any, k: int) -> str:
    """A node's name, else that of its first output."""
    return node.name or next((output for output in node.output if output), f"{node.op_type}_{k}")


def _is_text(message: Any) -> bool:
    """Whether all strings are UTF-8. Protobuf gives those that are not as bytes, or raises."""
    waiting = [message]
    try:
        while waiting:
            for field, value in waiting.pop().ListFields():
                if field.type == field.TYPE_MESSAGE:
                    waiting += [value] if hasattr(value, "ListFields") else value
                elif field.type == field.TYPE_STRING and not all(
                    isinstance(text, str) for text in ([value] if isinstance(value, str | bytes) else value)
                ):
                    return False
    except UnicodeDecodeError:
        return False
    return True


def _graphs(node: Any) -> Iterator[tuple[str, Any]]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for k, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}_{k}", graph


def _all(nodes: Any) -> Iterator[Any]:
    """Nodes, and those in graphs in their attributes."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            waiting += [graph.node for _, graph in _graphs(node)]
