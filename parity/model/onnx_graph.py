"""Reads ONNX models with the onnx package: all graphs, the recurrent nodes, and the sources of their weights."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import onnx

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
RECURRENT = ("LSTM", "GRU", "RNN")
_PRODUCTS = {"MatMul", "Gemm", "Conv", "MatMulInteger", "QLinearMatMul", "Einsum"}


class Place(NamedTuple):
    """A node and where it is: in the graph of the model, or in a graph inside a node such as If or Loop.

    Args:
        node: the node.
        graphs: the graphs that contain it, the outermost first.
        holders: the nodes whose attributes the inner graphs are; one fewer than `graphs`.
        branch: the name of the attribute that is the innermost graph, such as then_branch; "" in the model's own graph.
    """

    node: Any
    graphs: tuple[Any, ...]
    holders: tuple[Any, ...]
    branch: str = ""

    @property
    def name(self) -> str:
        """The node's name, or that of its first output."""
        return next((name for name in (self.node.name, *self.node.output) if name), "")

    def matches_name(self, name: str) -> bool:
        """Whether a name means this node: it is the node's name or output, alone or after the name of its branch."""
        node_names = (self.node.name, *self.node.output)
        return name in node_names or any(name.endswith(f"{self.branch}/{part}") for part in node_names if part)

    def input_name(self, key: str) -> str:
        """Return the name of an input by its role; "" if it is left out."""
        return dict(zip(INPUTS, self.node.input, strict=False)).get(key, "")


def places(graph: Any, graphs: tuple[Any, ...] = (), holders: tuple[Any, ...] = (), branch: str = "") -> Iterator[Place]:
    """Yield all nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield Place(node, (*graphs, graph), holders, branch)
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from places(inner, (*graphs, graph), (*holders, node), attribute.name)


def not_plain(place: Place) -> str:
    """Return why a node that is or may be recurrent is no plain LSTM, GRU or RNN node; "" if it is not such a node."""
    node = place.node
    if node.op_type in ("Loop", "Scan"):
        # A loop without a matrix product cannot hold a recurrent layer.
        inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        products = {inner_place.node.op_type for graph in inner for inner_place in places(graph)} & _PRODUCTS
        return f"a {node.op_type} with {', '.join(sorted(products))} in it may be a recurrent layer" if products else ""
    if node.op_type not in RECURRENT and any(word in node.op_type.upper() for word in RECURRENT):
        return f"it is a {node.op_type} node, which is not compared"
    return ""


def sources(place: Place, name: str) -> tuple[list[Any], list[Any]]:
    """Return the constants that a value is computed from, and the nodes that compute it.

    Args:
        place: the node that takes the value.
        name: the name of the value.

    Returns:
        The constants, and the nodes in an order in which they can run.

    Raises:
        ValueError: the value depends on an input of the model.
    """
    # Names of outer graphs are visible in inner ones, so all graphs around the node are searched.
    tensors = {tensor.name: tensor for graph in place.graphs for tensor in graph.initializer}
    makers = {output: node for graph in place.graphs for node in graph.node for output in node.output if output}
    constants: dict[str, Any] = {}
    nodes: list[Any] = []

    def add(value: str) -> None:
        if value in tensors:
            constants[value] = tensors[value]
        elif value not in makers:
            raise ValueError(f"{place.name!r} has weights that depend on the model's input {value!r}: compare it by hand")
        elif makers[value] not in nodes:
            for needed in makers[value].input:
                if needed:
                    add(needed)
            nodes.append(makers[value])  # after the nodes that compute its inputs

    add(name)
    return list(constants.values()), nodes


def arrays(graph: Any) -> set[str]:
    """Return the names of all constants with two or more axes, in the graph and in those inside it."""
    graphs = {id(inner): inner for place in places(graph) for inner in place.graphs}.values()
    names = [tensor.name for inner in graphs for tensor in inner.initializer if len(tensor.dims) > 1]
    steps = [place.node for place in places(graph) if place.node.op_type == "Constant"]
    names += [step.output[0] for step in steps if any(len(part.t.dims) > 1 for part in step.attribute if part.HasField("t"))]
    return set(names)


def load(path: Any) -> Any:
    """Load a model with its external data, and inline its local functions.

    Raises:
        ValueError: onnx cannot read it.
    """
    try:
        model = onnx.load(path)
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except (onnx.onnx_cpp2py_export.checker.ValidationError, OSError, RuntimeError, TypeError) as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(f"onnx cannot read {path} ({reason}): export it again") from error
