"""A graph of layers: runs the calls of a model in order."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from jlstm.cell import Params
from jlstm.convert.keras_graph.calls import Node, Source, is_source, sources
from jlstm.convert.keras_graph.operations import Operation
from jlstm.convert.keras_graph.values import Built, Call, Value


class Graph(NamedTuple):
    """The layers of a model and their calls.

    Attributes:
        layers: the layers by name.
        operations: the operations between layers, by name.
        nodes: the calls, each behind those that it takes its arguments from.
        inputs: a tree of the sources that the inputs are.
        outputs: a tree of the sources that the outputs are.
    """

    layers: Mapping[str, Built]
    operations: Mapping[str, Operation]
    nodes: tuple[Node, ...]
    inputs: Any
    outputs: Any

    def run(self, params: Params, inputs: tuple[Value, ...], key: Array | None) -> dict[tuple[str, int], tuple[Value, ...]]:
        """Return the outputs of all calls, by the name of the layer and the number of the call.

        Args:
            params: the parameters by layer.
            inputs: the inputs, in the order in which `inputs` is flattened.
            key: random key, which turns dropout on.
        """
        values: dict[tuple[str, int], tuple[Value, ...]] = {
            (end.layer, end.call): (value,) for end, value in zip(sources(self.inputs), inputs, strict=True)
        }
        for number, node in enumerate(self.nodes):
            # Two calls of a layer draw different masks.
            node_key = None if key is None else jax.random.fold_in(key, number)
            if node.layer in self.operations:
                arrays = jax.tree.map(
                    lambda leaf: _looked_up(values, leaf)[0].array if isinstance(leaf, Source) else leaf,
                    (node.args, dict(node.others)),
                    is_leaf=lambda leaf: is_source(leaf) or leaf is None,
                )
                values[node.layer, node.call] = (Value(self.operations[node.layer](*arrays[0], **arrays[1])),)
            else:
                call = _call(node, values, node_key)
                values[node.layer, node.call] = self.layers[node.layer](params.get(node.layer, {}), call)
        return values

    def results(self, values: Mapping[tuple[str, int], tuple[Value, ...]]) -> Any:
        """Return the outputs of the model from those of all calls, a tree of Values like `outputs`."""
        return jax.tree.map(lambda end: _single(_looked_up(values, end)), self.outputs, is_leaf=is_source)

    def as_layer(self, params: Params, call: Call) -> tuple[Value, ...]:
        """Return the outputs of a call of this model as a layer of another."""
        results = self.results(self.run(params, call.inputs, call.key))
        return tuple(jax.tree.leaves(results, is_leaf=lambda leaf: isinstance(leaf, Value)))


def _call(node: Node, values: Mapping[tuple[str, int], tuple[Value, ...]], key: Array | None) -> Call:
    """Return the call of a layer with its arrays."""
    inputs, states = (
        tuple(value for end in sources(tree) for value in _looked_up(values, end)) for tree in (node.args, node.states)
    )
    if node.mask is not None:
        mask = _looked_up(values, node.mask)[0].array.astype(bool)
        inputs = (inputs[0]._replace(mask=mask), *inputs[1:])
    return Call(inputs, states, node.mask is not None, key)


def _looked_up(values: Mapping[tuple[str, int], tuple[Value, ...]], end: Source) -> tuple[Value, ...]:
    outputs = values[end.layer, end.call]
    return outputs if end.output is None else (outputs[end.output],)


def _single(outputs: tuple[Value, ...]) -> Any:
    return outputs[0] if len(outputs) == 1 else list(outputs)
