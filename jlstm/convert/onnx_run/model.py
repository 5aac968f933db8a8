"""A whole ONNX model as a function with parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jlstm._src import checks
from jlstm.cell import Params
from jlstm.convert.onnx_model.graph import Model as ModelFile
from jlstm.convert.onnx_model.reasons import quoted
from jlstm.convert.onnx_run.graph import Graph, NodeError, Run
from jlstm.convert.onnx_run.program import Load, Program
from jlstm.layers import Layer

_KINDS: dict[type, str] = {np.floating: "floating", np.integer: "whole numbers", np.bool_: "boolean"}


class Input(NamedTuple):
    """An input of a model, as the file declares it.

    Attributes:
        dtype: its dtype.
        shape: the sizes of its axes: numbers, names of sizes that may vary, or "?"; None if the file does not declare them.
    """

    dtype: np.dtype
    shape: tuple[int | str, ...] | None

    def __str__(self) -> str:
        return f"{self.dtype.name}[{'…' if self.shape is None else ', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A whole ONNX model as a pure function, which `jlstm.convert.onnx.model` returns.

    Attributes:
        path: the name of the file.
        params: the parameters of the file: floating-point arrays by their names there, and for each recurrent layer the
            parameters in jlstm's layout, by the name that `jlstm.convert.onnx.read` gives to it.
        trainable: a tree of booleans like `params`, False for the running averages of BatchNormalization; `optax.masked` and
            `optax.multi_transform` take such trees.
        inputs: the inputs by name, with their dtypes and shapes.
        outputs: the names of the outputs.
        layers: the recurrent layers by name.
    """

    path: str
    params: Params
    trainable: Any
    inputs: Mapping[str, Input]
    outputs: tuple[str, ...]
    layers: Mapping[str, Layer]
    _graph: Graph = field()

    def __repr__(self) -> str:
        numbers = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        lines = [
            f"Model({self.path!r}, {numbers:,} parameters",
            *(f"  input {quoted(name)}: {declared}" for name, declared in self.inputs.items()),
            *(f"  layer {quoted(name)}: {layer}" for name, layer in self.layers.items()),
            *(f"  output {quoted(name)}" for name in self.outputs),
        ]
        return "\n".join(lines) + ")"

    def apply(self, params: Params, inputs: Any, *, key: Any = None) -> Any:
        """Run the model. It can be used inside of `jit`, `grad` and `vmap`.

        Whole numbers and booleans that decide shapes or branches must be known when JAX compiles: pass them as NumPy arrays,
        inside of `jit` too.

        Args:
            params: the parameters, as in the attribute `params`.
            inputs: the inputs by name; or, in order, a tuple or list of them; or the only one.
            key: random key, which turns the Dropout nodes of the file on. Without a key they are off.

        Returns:
            The only output, or a tuple of all outputs in the order of `outputs`.

        Raises:
            TypeError: an input has another kind of dtype than the file declares, or `key` is not a random key.
            ValueError: an input is missing or has another number of axes, `params` are those of another model, or a node cannot
                be run on these inputs. The message names the node.
        """
        values = self._values(params, inputs, key)
        results = tuple(jnp.asarray(values[name]) for name in self.outputs)
        return results[0] if len(results) == 1 else results

    def values(self, params: Params, inputs: Any, *, key: Any = None) -> dict[str, Any]:
        """Return all values that the main graph computes for these inputs, by the names in the file.

        The arguments and the errors are those of `apply`. Sizes and other constants are NumPy arrays.
        """
        values = self._values(params, inputs, key)
        return {name: values[name] for step in self._graph.steps for name in step.outputs if name in values}

    def _values(self, params: Params, inputs: Any, key: Any) -> dict[str, Any]:
        if not isinstance(params, Mapping) or params.keys() != self.params.keys():
            raise ValueError(
                f"params must be those of {self.path}, got {checks.brief(params)}: pass model.params, or arrays like these"
            )
        if key is not None:
            checks.key("key", key)
        by_name = {name: self._input(name, value) for name, value in self._by_name(inputs).items()}
        try:
            # ONNX's operators broadcast, also where the caller has JAX raise errors for that.
            with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
                return self._graph.run(Run(params, key, by_name))
        except NodeError as error:
            declared = ", ".join(f"{quoted(name)} as {declared}" for name, declared in list(self.inputs.items())[:4])
            raise ValueError(f"{self.path}: {error}; the file declares {declared}") from error

    def _by_name(self, inputs: Any) -> dict[str, Any]:
        if not isinstance(inputs, Mapping):
            if not isinstance(inputs, tuple | list) or (len(self.inputs) == 1 and not any(map(_is_array, inputs))):
                inputs = (inputs,)
            if len(inputs) != len(self.inputs):
                raise ValueError(f"{self.path} has {len(self.inputs)} inputs, got {len(inputs)}: pass {', '.join(self.inputs)}")
            return dict(zip(self.inputs, inputs, strict=True))
        if inputs.keys() != self.inputs.keys():
            names = ", ".join(sorted(map(str, inputs.keys() ^ self.inputs.keys())))
            raise ValueError(f"inputs must be {', '.join(self.inputs)} by name: {names} is missing, or is no input")
        return dict(inputs)

    def _input(self, name: str, value: Any) -> Any:
        """Return an input as a NumPy array if it holds concrete whole numbers or booleans, and else as a JAX array."""
        declared = self.inputs[name]
        array = value if isinstance(value, jax.Array) else np.asarray(value)
        kind = next((kind for kind in _KINDS if jnp.issubdtype(declared.dtype, kind)), None)
        if kind is None or not jnp.issubdtype(array.dtype, kind):
            expected = declared.dtype.name if kind is None else _KINDS[kind]
            raise TypeError(f"the input {quoted(name)} must be {expected}, got {array.dtype}: cast it")
        if declared.shape is not None and array.ndim != len(declared.shape):
            raise ValueError(f"the input {quoted(name)} must be {declared}, got shape {array.shape}: pass as many axes")
        # Floating inputs are differentiated. Whole numbers may be sizes or indices of a Slice, so they stay known to the program.
        if kind is np.floating:
            return jnp.asarray(array)
        return array if isinstance(array, jax.core.Tracer) else np.asarray(array)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape")


def build(file: ModelFile, load: Load) -> Model:
    """Return the function of a model, and its parameters.

    Args:
        file: the file.
        load: converts the weights of a recurrent node, see `Program`.

    Raises:
        ValueError: the model cannot be run, or it is damaged.
    """
    program, proto = Program(file, load), file.proto.graph
    inputs = {value.name: _declared(file, value) for value in proto.input if value.name not in file.main().tensors}
    outputs = tuple(output.name for output in proto.output)
    if unknown := sorted(program.graph.takes - inputs.keys()):
        raise ValueError(f"{file.path} has no value of the name {quoted(unknown[0])} that can be read: export it again")
    trainable = {
        name: jax.tree.map(lambda _, name=name: name not in program.averages, value) for name, value in program.params.items()
    }
    return Model(file.path.name, program.params, trainable, inputs, outputs, program.layers, program.graph)


def _declared(file: ModelFile, value: Any) -> Input:
    """Return how the file declares an input."""
    if not value.type.HasField("tensor_type"):
        raise ValueError(f"{file.path} has an input {quoted(value.name)} that is not an array: export it with arrays only")
    kind = value.type.tensor_type
    try:
        dtype = np.dtype(file.onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file.path} has an input {quoted(value.name)} of no type of numbers: export it again") from error
    sizes = tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in kind.shape.dim)
    return Input(dtype, sizes if kind.HasField("shape") else None)
