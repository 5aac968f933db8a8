"""Reading of an ONNX model, and traversal of its graphs: the main graph, branches of If, bodies of loops, and function calls."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jlstm.convert import files
from jlstm.convert.onnx_model.scope import Key, Scope, key
from jlstm.convert.onnx_model.tensors import Tensors

# Limits on untrusted files: graphs inside graphs and functions inside functions; and steps and bytes of weights, as an allowance
# and a factor for each byte of the file. A small file may call functions that call functions, and so grow exponentially.
_MAX_DEPTH = 64
_FREE_STEPS, _STEPS_PER_BYTE = 10_000, 4
_FREE_BYTES, _BYTES_PER_BYTE = 1 << 20, 24


class Model:
    """An ONNX model in a file.

    Args:
        path: the file.

    Attributes:
        path: the file.
        onnx: the onnx package.
        proto: the ModelProto.
        tensors: reads the tensors of the model.
        functions: the functions that the model defines.
        scopes: the graphs and function calls that `nodes` has visited.

    Raises:
        ImportError: onnx is not installed.
        ValueError: the file is not an ONNX file, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.onnx = path, files.import_package("onnx", path)
        decode_error = files.import_package("google.protobuf.message", path).DecodeError
        content = path.read_bytes()
        if content[4:8] == b"ORTM":
            raise ValueError(f"{path} is of ONNX Runtime's own format: read the .onnx file that it was made from")
        try:
            self.proto = self.onnx.load_model_from_string(content)
        except decode_error as error:
            files.refuse_other_kind(path, content, "an ONNX model", "an ONNX model")
            raise ValueError(f"{path} is not a whole ONNX file: export it again") from error
        if not _is_text(self.proto):
            raise ValueError(f"{path} is damaged, it has a name that is not text: export it again")
        self.tensors = Tensors(self.onnx, path)
        self.functions: dict[Key, Any] = {key(function, function.name): function for function in self.proto.functions}
        self.scopes: list[Scope] = []
        self._steps = self._weight_bytes = 0

    def count(self, steps: int) -> None:
        """Count steps of some microseconds each. A step is a node that is visited, or four kilobytes that are computed.

        Raises:
            ValueError: there are too many steps for a file of this size, for example because functions call each other.
        """
        self._steps += steps
        if self._steps > _FREE_STEPS + _STEPS_PER_BYTE * self.tensors.size:
            raise ValueError(f"{self.path} takes far longer to read than its size justifies: simplify it, by onnxsim")

    def count_weights(self, size: int) -> None:
        """Count the bytes of converted weights, which stay in memory.

        Raises:
            ValueError: there are too many bytes for a file of this size, for example because many nodes share a tensor.
        """
        self._weight_bytes += size
        if self._weight_bytes > _FREE_BYTES + _BYTES_PER_BYTE * self.tensors.size:
            raise ValueError(f"{self.path} has layers that are far larger than the file: load their weights one by one")

    def nodes(self, is_wanted: Callable[[Any], bool]) -> Iterator[tuple[str, Any, Scope]]:
        """Yield all nodes with their full names and scopes, in the order in which they run.

        Calls of a function are entered only if the function contains a wanted node, itself or in a function that it calls.

        Args:
            is_wanted: returns whether a node is wanted.

        Raises:
            ValueError: graphs are nested too deeply, or names are too long.
        """
        graph = self.proto.graph
        inputs = [value.name for value in graph.input] + [tensor.values.name for tensor in graph.sparse_initializer]
        main = Scope(self, graph.node, tensors=graph.initializer, inputs=inputs)
        functions = self._functions_with(is_wanted)
        yield from self._walk(main, functions, 0)
        # The tensors of functions that were not entered are listed as unused, too.
        unvisited = [self.functions[name] for name in self.functions.keys() - functions]
        self.scopes += [Scope(self, function.node, path=f"{function.name}/") for function in unvisited]

    def training_nodes(self) -> Iterator[tuple[str, Any]]:
        """Yield the nodes of the graphs that train the model, with their full names. No call of the model runs them."""
        for k, info in enumerate(self.proto.training_info):
            for name, graph in (("initialization", info.initialization), ("algorithm", info.algorithm)):
                for position, node in enumerate(_all_nodes(graph.node)):
                    yield f"training_info_{k}/{name}/{label(node, position)}", node

    def _walk(self, scope: Scope, functions: set[Key], depth: int) -> Iterator[tuple[str, Any, Scope]]:
        """Yield the nodes of a graph and of the graphs inside it. Calls of the given functions are entered."""
        if depth > _MAX_DEPTH:
            raise ValueError(
                f"{self.path} has more than {_MAX_DEPTH} graphs in one another: inline its functions, by onnx.inliner"
            )
        self.scopes.append(scope)
        for k, node in enumerate(scope.nodes):
            name = label(node, k)
            if key(node) in functions:
                yield from self._walk(scope.call(node, name), functions, depth + 1)
                continue
            yield scope.path + name, node, scope
            for attribute_name, graph in _graphs(node):
                inner = scope.inner(graph, f"{name}/{attribute_name}", is_branch=node.op_type == "If")
                yield from self._walk(inner, functions, depth + 1)

    def _functions_with(self, is_wanted: Callable[[Any], bool]) -> set[Key]:
        """Return the functions that contain a wanted node, or call a function that contains one."""
        callers: dict[Key, set[Key]] = defaultdict(set)
        containing = set()  # starts with the functions that contain a wanted node, and grows by their callers
        for name, function in self.functions.items():
            for node in _all_nodes(function.node):
                callers[key(node)].add(name)
                if is_wanted(node):
                    containing.add(name)
        pending = list(containing)
        while pending:
            new_callers = callers[pending.pop()] - containing
            containing |= new_callers
            pending += new_callers
        return containing


def label(node: Any, k: int) -> str:
    """Return a node's name. Without one, return the name of its first output, or its operator and its position `k`."""
    return node.name or next((output for output in node.output if output), f"{node.op_type}_{k}")


def _is_text(message: Any) -> bool:
    """Return whether all strings of a protobuf message are UTF-8.

    For other strings, implementations of protobuf differ: they return bytes or raise a UnicodeDecodeError.
    """
    pending = [message]
    try:
        while pending:
            for field, value in pending.pop().ListFields():
                if field.type == field.TYPE_MESSAGE:
                    pending += [value] if hasattr(value, "ListFields") else value
                elif field.type == field.TYPE_STRING and not all(
                    isinstance(text, str) for text in ([value] if isinstance(value, str | bytes) else value)
                ):
                    return False
    except UnicodeDecodeError:
        return False
    return True


def _graphs(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the graphs in a node's attributes, by the attributes' names."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for k, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}_{k}", graph


def _all_nodes(nodes: Any) -> Iterator[Any]:
    """Yield nodes and, recursively, the nodes of graphs in their attributes."""
    pending = [nodes]
    while pending:
        for node in pending.pop():
            yield node
            pending += [graph.node for _, graph in _graphs(node)]
