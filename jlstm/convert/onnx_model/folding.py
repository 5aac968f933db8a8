"""Constant folding: computation of the values in a graph that depend only on the tensors of the file.

Exporters often store the weights in another layout than an LSTM node takes, with operators such as Transpose and Concat between.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from jlstm.convert.onnx_model.graph import label
from jlstm.convert.onnx_model.operators import OPERATORS, Call
from jlstm.convert.onnx_model.reasons import UnsupportedError, operator_name, quoted
from jlstm.convert.onnx_model.scope import Scope, Source, key

_MAX_DEPTH = 64  # operators in a row: the recursion must not exhaust Python's stack
# The bytes that may be computed: a factor for each byte of the file, and an allowance for small files. Operators such as Expand
# and Tile make large arrays of a few bytes.
_BYTES_PER_FILE_BYTE, _ALLOWANCE = 16, 1 << 20
REMEDY = "fold constants first, by onnxsim, or by ONNX Runtime's basic optimizations"
# Operators that only copy, select or convert elements, so that an array of zeros stays an array of zeros.
_ZERO_PRESERVING = (
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
    """Computes values that depend only on constants. It computes each value once, and bounds the memory for all of them.

    Args:
        used: a set to which the scope and name of every tensor that is read are added.
    """

    def __init__(self, used: set[tuple[Scope, str]]) -> None:
        self._used = used
        self._arrays: dict[tuple[Scope, str], np.ndarray] = {}
        self._bytes_computed = 0

    def array(self, scope: Scope, name: str) -> np.ndarray:
        """Return the value of a name in a graph.

        Raises:
            UnsupportedError: the value is not constant, or it is computed in a way that is not supported. The message says how.
            ValueError: the file is damaged.
        """
        return self._array(scope, name, 0)

    def _array(self, scope: Scope, name: str, depth: int) -> np.ndarray:
        """Return the value of a name, as `array` does. `depth` is the number of operators that were passed on the way to it."""
        source = scope.find(name)
        if source is None:
            raise UnsupportedError(f"{quoted(name)} is left out where a function is called: export the model again")
        scope.model.count(1)
        place = (source.scope, source.name)
        if place not in self._arrays:
            if depth > _MAX_DEPTH:
                raise UnsupportedError(f"{quoted(name)} comes from more than {_MAX_DEPTH} operators in a row: {REMEDY}")
            self._arrays[place] = self._compute(source, depth)
        return self._arrays[place]

    def _compute(self, source: Source, depth: int) -> np.ndarray:
        """Return the value of a source: a tensor, an output of a function, or an output of an operator.

        Raises:
            UnsupportedError: the source is an input of the graph, or the operator is not supported.
        """
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
        results = self._run(source, [self._array(scope, name, depth + 1) if name else None for name in _input_names(source)])
        # An operator such as Split has several outputs. All of them are stored, so that it runs once.
        for name, result in zip(node.output, results, strict=False):
            self._arrays[scope, name] = result
        return results[source.output]

    def _run(self, source: Source, inputs: list[np.ndarray | None]) -> list[np.ndarray]:
        """Run the operator of a node, and return all of its outputs.

        Args:
            source: the output of the node that is needed.
            inputs: the values of the node's inputs, with None for an optional one that is left out.

        Raises:
            UnsupportedError: the operator does not support an attribute or these values, or would take too much memory.
        """
        scope, node = source.scope, source.node
        operator, values = OPERATORS[node.op_type], scope.values(node)
        if node.op_type == "Cast":
            values["to"] = dtype_of(scope, values.get("to"))
        if node.op_type == "Constant":
            self._used.add((scope, source.name))
        if extra := operator.unsupported(values):
            raise UnsupportedError(
                f"{quoted(source.name)} is computed by {operator_name(node.op_type)} with {quoted(extra[0])}: {REMEDY}"
            )
        call = Call(inputs, values, len(node.output))
        # The size is checked before the operator runs, at 8 bytes per element as for float64 and int64.
        self._spend(source, 8 * self._guarded(source, lambda: operator.size(call)))
        results = self._guarded(source, lambda: operator.run(call))
        results = [np.asarray(result) for result in (results if isinstance(results, list) else [results])]
        if source.output >= len(results):
            raise UnsupportedError(f"{quoted(source.name)} is one output too many of {operator_name(node.op_type)}: {REMEDY}")
        return results

    def _guarded(self, source: Source, compute: Callable[[], Any]) -> Any:
        """Return the result of a function.

        Raises:
            UnsupportedError: NumPy raised an error on values from the file.
        """
        try:
            with np.errstate(all="ignore"):
                return compute()
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError) as error:
            problem = f"{quoted(source.name)} is computed by {operator_name(source.node.op_type)} of values that it cannot take"
            raise UnsupportedError(f"{problem}: {REMEDY}") from error

    def _spend(self, source: Source, size: int) -> None:
        """Count the bytes of a computed value, and the time that they take.

        Raises:
            UnsupportedError: all values so far take more memory than a file of this size justifies.
        """
        self._bytes_computed += size
        if self._bytes_computed > _ALLOWANCE + _BYTES_PER_FILE_BYTE * source.scope.model.tensors.size:
            raise UnsupportedError(f"{quoted(source.name)} is computed in more memory than the file justifies: {REMEDY}")
        source.scope.model.count(size >> 12)

    def initial_state_kind(self, scope: Scope, name: str, depth: int = 0) -> str:
        """Return what kind of value an initial state of a layer is.

        Its shape often depends on the batch size, so its value is not known. But if all elements are zero, this is known.

        Returns:
            "zero", "constant" for other constants, "input" for an input of the graph, or "computed".
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
        if depth > _MAX_DEPTH or key(node)[0] or key(node) in source.scope.model.functions:
            return "computed"
        if node.op_type == "ConstantOfShape":
            value = source.scope.values(node).get("value")
            return "zero" if value is None or not value.any() else "constant"
        if node.op_type in (*_ZERO_PRESERVING, "Concat"):
            parts = node.input if node.op_type == "Concat" else node.input[:1]  # the other inputs are shapes or indices
            kinds = {self.initial_state_kind(source.scope, part, depth + 1) for part in parts}
            return next((kind for kind in ("computed", "constant", "input") if kind in kinds), "zero")
        return "computed"


def _input_names(source: Source) -> Any:
    """Return the names of a node's inputs, after a check that its operator can be run.

    Raises:
        UnsupportedError: the operator is not supported.
    """
    node = source.node
    quantization = key(node)[0] == "com.microsoft" and node.op_type in ("DequantizeLinear", "QuantizeLinear")
    if (key(node)[0] and not quantization) or node.op_type not in OPERATORS:
        raise UnsupportedError(
            f"{quoted(source.name)} is computed by {operator_name(node.op_type)}, expected constants: {REMEDY}"
        )
    return node.input


def dtype_of(scope: Scope, number: Any) -> Any:
    """Return the NumPy dtype of a type number of ONNX.

    Raises:
        UnsupportedError: there is no dtype of this number.
    """
    try:
        return scope.model.onnx.helper.tensor_dtype_to_np_dtype(number)
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedError("there is a Cast to no type of numbers: export it again") from error
