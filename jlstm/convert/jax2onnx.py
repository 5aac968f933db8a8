"""A plugin for jax2onnx, which exports functions and Flax models as ONNX: `layer.apply` becomes ONNX's LSTM, GRU or RNN nodes.

Import this module before `jax2onnx.to_onnx`. Parameters must be constants of the exported function, as those of an NNX module
are. `apply` may get a carry and `lengths`; dropout must be off.

This module needs `pip install jax2onnx`. https://github.com/enpasos/jax2onnx describes plugins.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jlstm._src.packages import needed_by
from jlstm.cell import Params, PyTree
from jlstm.convert import onnx
from jlstm.layers import Layer

with needed_by("jlstm.convert.jax2onnx", "jax2onnx"):
    import onnx_ir
    from jax.extend.core import Primitive
    from jax2onnx.plugins._ir_shapes import _ensure_value_metadata, _stamp_type_and_shape
    from jax2onnx.plugins._patching import MonkeyPatchSpec
    from jax2onnx.plugins.plugin_system import PrimitiveLeafPlugin, register_primitive

_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_LAYER = Primitive("jlstm.apply")
_LAYER.multiple_results = True


class _Node(NamedTuple):
    """An ONNX node with its weights.

    Attributes:
        arrays: its weights by ONNX's names.
        attributes: its attributes by ONNX's names.
    """

    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any]

    @property
    def sizes(self) -> tuple[int, int]:
        """The number of directions and of units."""
        return self.arrays["R"].shape[0], self.arrays["R"].shape[2]

    @property
    def operator(self) -> str:
        """The name of ONNX's operator, from the number of gates."""
        return {4: "LSTM", 3: "GRU", 1: "RNN"}[self.arrays["R"].shape[1] // self.sizes[1]]

    @property
    def states(self) -> tuple[str, ...]:
        """The names of its states."""
        return ("h", "c") if self.operator == "LSTM" else ("h",)


class _Call:
    """The options of a call of `apply`. JAX compares calls by identity, since arrays cannot be compared.

    Attributes:
        nodes: the nodes, the lowest first.
        time_major: whether time is the first axis of the inputs.
        lengths: whether there are lengths.
        carry: whether there is an initial carry.
    """

    def __init__(self, nodes: list[_Node], *, time_major: bool, lengths: bool, carry: bool) -> None:
        self.nodes, self.time_major, self.lengths, self.carry = nodes, time_major, lengths, carry


def _apply(
    layer: Layer, params: Params, xs: Any, carry: PyTree | None = None, *, lengths: Any = None, **others: Any
) -> tuple[PyTree, Any]:
    """Take the place of `Layer.apply` while jax2onnx traces a function.

    Raises:
        ValueError: ONNX's nodes do not have an option of the layer or an argument, or the parameters are traced.
    """
    if unsupported := [name for name, value in others.items() if value is not None]:
        remedy = "pass lengths" if unsupported[0] in ("mask", "resets") else "turn dropout off, with model.eval() say"
        raise ValueError(f"ONNX's nodes have no {unsupported[0]}: {remedy}")
    # The converter to ONNX's layout computes with NumPy, so it needs the numbers themselves.
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params)):
        raise ValueError("params must be constants of the exported function, got its arguments: close over them")
    dumped = onnx.dump(layer, jax.tree.map(lambda leaf: np.asarray(leaf, xs.dtype), params))
    weights = dumped if isinstance(dumped, list) else [dumped]
    nodes = [
        _Node(
            {name: value for name, value in node.items() if isinstance(value, np.ndarray)},
            {name: value for name, value in node.items() if not isinstance(value, np.ndarray)},
        )
        for node in weights
    ]
    starts: list[Any] = []
    if carry is not None:
        layer.map(lambda _, entry: starts.extend(entry), carry)  # in the order of the nodes and their directions
    call = _Call(nodes, time_major=layer.time_major, lengths=lengths is not None, carry=carry is not None)
    ys, *ends = _LAYER.bind(xs, *starts, *(() if lengths is None else (lengths,)), call=call)
    remaining = iter(ends)
    return layer.map(lambda leaf: leaf.cell.carry_type(*(next(remaining) for _ in leaf.cell.carry_type._fields))), ys


@register_primitive(jaxpr_primitive=_LAYER.name, context="primitives.jlstm", component="apply", testcases=[], onnx=[])
class LayerPlugin(PrimitiveLeafPlugin):
    """Tells jax2onnx how to trace `layer.apply`, and which nodes to write."""

    _PRIM = _LAYER

    @staticmethod
    def abstract_eval(xs: Any, *_: Any, call: _Call) -> list[Any]:
        """Return the shapes of the outputs and of the last states: for each node, each direction and each of its states."""
        batch = xs.shape[1 if call.time_major else 0]
        directions, units = call.nodes[-1].sizes
        shapes = [(*xs.shape[:2], directions * units)]
        for node in call.nodes:
            shapes += [(batch, node.sizes[1])] * (node.sizes[0] * len(node.states))
        return [jax.core.ShapedArray(shape, xs.dtype) for shape in shapes]

    def lower(self, context: Any, equation: Any) -> None:
        """Write the nodes of a call."""
        call, inputs = equation.params["call"], [context.get_value_for_var(variable) for variable in equation.invars]
        graph, xs = _Graph(context, equation.invars[0].aval.dtype), inputs.pop(0)
        lengths = inputs.pop() if call.lengths else None
        current = xs if call.time_major else graph.add("Transpose", xs, perm=[1, 0, 2])
        ends: list[Any] = []
        for node in call.nodes:
            count = node.sizes[0] * len(node.states) if call.carry else 0
            starts, inputs = inputs[:count], inputs[count:]
            current, last = graph.layer(node, current, starts, lengths)
            ends += last
        ys = current if call.time_major else graph.add("Transpose", current, perm=[1, 0, 2])
        for variable, value in zip(equation.outvars, (ys, *ends), strict=True):
            _stamp_type_and_shape(value, tuple(variable.aval.shape))
            _ensure_value_metadata(context, value)
            context.bind_value_for_var(variable, value)

    @classmethod
    def binding_specs(cls) -> list[Any]:
        """Return what jax2onnx replaces while it traces."""

        def replacement(_: Callable[..., Any]) -> Callable[..., Any]:
            return _apply

        return [MonkeyPatchSpec(target="jlstm.layers.layer.Layer", attr="apply", make_value=replacement, delete_if_missing=False)]


class _Graph:
    """Adds nodes to the graph of jax2onnx.

    Args:
        context: jax2onnx's context of a conversion.
        dtype: the dtype of the values.
    """

    def __init__(self, context: Any, dtype: Any) -> None:
        self._context, self._type = context, onnx_ir.TensorType(onnx_ir.DataType.from_numpy(np.dtype(dtype)))

    def add(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node, and return its output or, if there are several, a list of them."""
        names = [self._context.fresh_name(operator) for _ in range(outputs)]
        results = getattr(self._context.builder, operator)(*inputs, _outputs=names, **attributes)
        for value in (results,) if outputs == 1 else results:
            value.type = self._type
        return results

    def constant(self, array: np.ndarray) -> Any:
        """Add a constant, and return its value in the graph."""
        return self._context.builder.add_initializer_from_array(self._context.fresh_name("jlstm"), array)

    def layer(self, node: _Node, xs: Any, starts: list[Any], lengths: Any) -> tuple[Any, list[Any]]:
        """Add a recurrent node.

        Args:
            node: the node.
            xs: its inputs (time, batch, features).
            starts: its initial states (batch, units): for each direction those in `node.states`. Empty for zeros.
            lengths: the lengths of the sequences, or None.

        Returns:
            Its outputs (time, batch, directions·units), and its last states in the form of `starts`.
        """
        (directions, units), values = node.sizes, {name: self.constant(array) for name, array in node.arrays.items()}
        values |= {"X": xs} | ({} if lengths is None else {"sequence_lens": lengths})
        axis, step = self.constant(np.array([0])), len(node.states)
        for k, state in enumerate(node.states if starts else ()):
            # The states of one direction follow each other, h before c, so those of one kind are `step` apart.
            sides = [self.add("Unsqueeze", start, axis) for start in starts[k::step]]
            values[f"initial_{state}"] = self.add("Concat", *sides, axis=0)
        places = [values.get(name) for name in _INPUTS[: 8 if node.operator == "LSTM" else 6]]
        while places[-1] is None:
            places.pop()
        # ONNX lets a node leave out inputs at the end, and requires all before them. Y is (time, directions, batch, units), and
        # Y_h and Y_c are (directions, batch, units).
        all_ys, *last = self.add(node.operator, *places, outputs=1 + step, **node.attributes)
        ys = self.add("Transpose", all_ys, perm=[0, 2, 1, 3])
        ys = self.add("Reshape", ys, self.constant(np.array([0, 0, directions * units])))  # 0 keeps the sizes of time and batch
        indices = [self.constant(np.array(direction)) for direction in range(directions)]
        return ys, [self.add("Gather", state, index, axis=0) for index in indices for state in last]


LayerPlugin.ensure_abstract_eval_bound()
