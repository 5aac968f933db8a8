"""Constant folding: evaluation of values that depend only on the tensors of a model."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jlstm.convert.onnx_model.graph import label
from jlstm.convert.onnx_model.operators import OPERATORS, Call
from jlstm.convert.onnx_model.reasons import UnsupportedError, quoted
from jlstm.convert.onnx_model.scope import Scope, Source, key

_DEEPEST = 64  # operators one after the other
_FACTOR, _FREE = 16, 1 << 20  # bytes for each byte of the file, and besides
REMEDY = "fold constants first, by onnxsim, or by ONNX Runtime's basic optimizations"
_KEEP = (
    "Identity",
    "Cast",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Gather",
    "Expand",
    "Tile",
    "Split",
)


class Constants:
    """Computes values that depend on nothing but constants, each once, within a bound of memory.

    Args:
        used: gets the scope and name of every tensor that is read.
    """

    def __init__(self, used: set[tuple[Scope, str]]) -> None:
        self._used = used
        self._arrays: dict[tuple[Scope, str], np.ndarray] = {}
        self._taken = 0

    def array(self, scope: Scope, name: str) -> np.ndarray:
        """Return the value of this name.

        Raises:
            UnsupportedError: it is an input, or computed in a way that is not a constant; the sentence says by what.
            ValueError: the file is damaged.
        """
        return self._array(scope, name, 0)

    def _array(self, scope: Scope, name: str, depth: int) -> np.ndarray:
        source = scope.find(name)
        if source is None:
            raise UnsupportedError(f"{quoted(name)} is left out where a function is called: export the model again")
        scope.model.count(1)
        place = (source.scope, source.name)
        if place not in self._arrays:
            if depth > _DEEPEST:
                raise UnsupportedError(f"{quoted(name)} comes from more than {_DEEPEST} operators in a row: {REMEDY}")
            self._arrays[place] = self._made(source, depth)
        return self._arrays[place]

    def _made(self, source: Source, depth: int) -> np.ndarray:
        scope, node = source.scope, source.node
        if source.tensor is not None:
            self._used.add((scope, source.name))
            return scope.model.tensors.array(source.tensor)
        if node is None:
            raise UnsupportedError(
                f"{quoted(source.name)} is an input of the graph: pass its value to load, with the other weights"
            )
        if key(node) in scope.model.functions:
            inner = scope.call(node, label(node, 0))
            return self._array(inner, scope.model.functions[key(node)].output[source.output], depth + 1)
        results = self._run(source, [self._array(scope, name, depth + 1) if name else None for name in _taken(source)])
        for name, result in zip(node.output, results, strict=False):
            self._arrays[scope, name] = result
        return results[source.output]

    def _run(self, source: Source, inputs: list[np.ndarray | None]) -> list[np.ndarray]:
        scope, node = source.scope, source.node
        operator, values = OPERATORS[node.op_type], scope.values(node)
        if node.op_type == "Cast":
            values["to"] = _dtype(scope, values.get("to"))
        if node.op_type == "Constant":
            self._used.add((scope, source.name))
        extra = sorted(name for name in values.keys() - set(operator.attributes) if not _off(values[name]))
        if extra:
            raise UnsupportedError(f"{quoted(source.name)} is computed by {node.op_type} with {quoted(extra[0])}: {REMEDY}")
        call = Call(inputs, values, len(node.output))
        self._take(source, 8 * self._tried(source, lambda: operator.size(call)))
        results = self._tried(source, lambda: operator.run(call))
        results = [np.asarray(result) for result in (results if isinstance(results, list) else [results])]
        if source.output >= len(results):
            raise UnsupportedError(f"{quoted(source.name)} is one output too many of {node.op_type}: {REMEDY}")
        return results

    def _tried(self, source: Source, compute: Callable[[], Any]) -> Any:
        try:
            with np.errstate(all="ignore"):
                return compute()
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError) as error:
            what = f"{quoted(source.name)} is computed by {source.node.op_type} of values that it cannot take"
            raise UnsupportedError(f"{what}: {REMEDY}") from error

    def _take(self, source: Source, size: int) -> None:
        self._taken += size
        if self._taken > _FREE + _FACTOR * source.scope.model.tensors.size:
            raise UnsupportedError(f"{quoted(source.name)} is computed in more memory than the file justifies: {REMEDY}")
        source.scope.model.count(size >> 12)

    def start(self, scope: Scope, name: str, depth: int = 0) -> str:
        """Tell what a state is that a layer starts from, whatever its shape, which may be known only when the model runs.

        Returns:
            "zero", "constant" for other constants, "input", or "computed".
        """
        scope.model.count(1)
        source = scope.find(name)
        if source is None:
            return "zero"
        node = source.node
        try:
            return "constant" if self.array(scope, name).any() else "zero"
        except UnsupportedError:
            if node is None:
                return "input"
        if depth > _DEEPEST or key(node)[0] or key(node) in source.scope.model.functions:
            return "computed"
        if node.op_type == "ConstantOfShape":
            value = source.scope.values(node).get("value")
            return "zero" if value is None or not value.any() else "constant"
        if node.op_type in (*_KEEP, "Concat"):
            parts = node.input if node.op_type == "Concat" else node.input[:1]
            kinds = {self.start(source.scope, part, depth + 1) for part in parts}
            return next((kind for kind in ("computed", "constant", "input") if kind in kinds), "zero")
        return "computed"


def _taken(source: Source) -> Any:
    """Return the inputs of a node, after a check that its operator can be evaluated."""
    node = source.node
    quantization = key(node)[0] == "com.microsoft" and node.op_type in ("DequantizeLinear", "QuantizeLinear")
    if (key(node)[0] and not quantization) or node.op_type not in OPERATORS:
        raise UnsupportedError(f"{quoted(source.name)} is computed by {node.op_type}, expected constants: {REMEDY}")
    return node.input


def _dtype(scope: Scope, number: Any) -> Any:
    try:
        return scope.model.onnx.helper.tensor_dtype_to_np_dtype(number)
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedError("there is a Cast to no type of numbers: export it again") from error


def _off(value: Any) -> bool:
    """Whether an attribute that an operator had in some versions is at its default."""
    return isinstance(value, int | float) and value == 0
