"""An ONNX model's file and the way through its graphs: branches of If, bodies of loops, and functions where they are called."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jlstm.convert import files
from jlstm.convert.onnx_model.scope import Key, Scope, key
from jlstm.convert.onnx_model.tensors import Tensors

_DEEPEST = 64  # graphs in graphs and functions in functions


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
        """Count steps of some microseconds each: a node that is visited, or four kilobytes that are computed.

        Raises:
            ValueError: there are too many for a file of this size, as where functions call each other many times.
        """
        self._steps += steps
        if self._steps > 10_000 + 4 * self.tensors.size:
            raise ValueError(f"{self.path} takes far longer to read than its size justifies: simplify it, by onnxsim")

    def keep(self, size: int) -> None:
        """Count the bytes of weights that are kept.

        Raises:
            ValueError: there are too many for a file of this size, as where many nodes share a tensor.
        """
        self._kept += size
        if self._kept > (1 << 20) + 24 * self.tensors.size:
            raise ValueError(f"{self.path} has layers that are far larger than the file: load their weights one by one")

    def nodes(self, wanted: Callable[[Any], bool]) -> Iterator[tuple[str, Any, Scope]]:
        """Yield all nodes with their names, in the order in which they run; those in functions only if `wanted` takes one there.

        Args:
            wanted: whether a node is looked for.

        Raises:
            ValueError: graphs are nested too deeply, or names are too long.
        """
        graph = self.proto.graph
        inputs = [value.name for value in graph.input] + [tensor.values.name for tensor in graph.sparse_initializer]
        main = Scope(self, graph.node, tensors=graph.initializer, inputs=inputs)
        functions = self._functions_with(wanted)
        yield from self._walk(main, functions, 0)
        others = [self.functions[name] for name in self.functions.keys() - functions]
        self.scopes += [Scope(self, function.node, path=f"{function.name}/") for function in others]

    def _walk(self, scope: Scope, functions: set[Key], depth: int) -> Iterator[tuple[str, Any, Scope]]:
        if depth > _DEEPEST:
            raise ValueError(f"{self.path} has more than {_DEEPEST} graphs in one another: inline its functions, by onnx.inliner")
        self.scopes.append(scope)
        for k, node in enumerate(scope.nodes):
            name = label(node, k)
            if key(node) in functions:
                yield from self._walk(scope.call(node, name), functions, depth + 1)
                continue
            yield scope.path + name, node, scope
            for which, graph in _graphs(node):
                inner = scope.inner(graph, f"{name}/{which}", is_branch=node.op_type == "If")
                yield from self._walk(inner, functions, depth + 1)

    def _functions_with(self, wanted: Callable[[Any], bool]) -> set[Key]:
        """Return the functions that contain a wanted node, or call a function that contains one."""
        callers: dict[Key, set[Key]] = defaultdict(set)
        containing = set()
        for name, function in self.functions.items():
            for node in _all(function.node):
                callers[key(node)].add(name)
                if wanted(node):
                    containing.add(name)
        new = list(containing)
        while new:
            callers_found = callers[new.pop()] - containing
            containing |= callers_found
            new += callers_found
        return containing


def label(node: Any, k: int) -> str:
    """Return a node's name, or that of its first output if it has none."""
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
    """Yield nodes and, recursively, the nodes of graphs in their attributes."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            waiting += [graph.node for _, graph in _graphs(node)]
