"""`model`: a Keras file as a function of parameters and inputs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm._src import checks
from jlstm.cell import Params
from jlstm.convert.keras_graph.build import Builder, parameters
from jlstm.convert.keras_graph.calls import Source, is_source, sources
from jlstm.convert.keras_graph.graph import Graph
from jlstm.convert.keras_graph.values import Built, Value
from jlstm.convert.keras_model import config, described
from jlstm.convert.keras_model.files import contents
from jlstm.convert.keras_model.options import UnsupportedError, quoted
from jlstm.convert.keras_model.result import Result


@dataclass(frozen=True, repr=False)
class Model:
    """A Keras model as a pure function. `model` reads it from a file.

    Attributes:
        name: the model's name in Keras.
        params: the parameters, NumPy arrays by layer and role: `params["dense"]["kernel"]`. A model inside the model is a dict of
            its layers, and a recurrent layer has the parameters of the layer of jlstm.
        trainable: a tree of booleans like `params`: whether Keras trains the array. Moving statistics and frozen layers are not
            trained; `optax.masked` and `optax.multi_transform` take such trees.
        layers: the layers by name, "outer/inner" in nested models, each with its `class_name`, `options` and `params`.
    """

    name: str
    params: Params = field(compare=False)
    trainable: Any
    layers: Mapping[str, Built] = field(compare=False)
    _graph: Graph = field(compare=False)

    def apply(self, params: Params, inputs: Any, *, key: Array | None = None) -> Any:
        """Return the outputs of the model.

        Args:
            params: parameters as in `params`.
            inputs: one array, or as many as the model has inputs: a list in their order, or a dict by the names of the inputs.
                Whole numbers such as token indices stay whole numbers until a layer computes with them.
            key: random key, which turns dropout and noise on, as `training=True` does in Keras. BatchNormalization uses its
                moving statistics with a key too.

        Returns:
            The outputs, in the structure of the Keras model: an array, or a list or dict of arrays.

        Raises:
            ValueError: the inputs are not those of the model, or a layer computes in float64 while JAX has it off.
            TypeError: an input is not an array, or `key` is not a random key.
        """
        values = self._run(params, inputs, key)
        return jax.tree.map(lambda value: value.array, self._graph.results(values), is_leaf=_is_value)

    def outputs(self, params: Params, inputs: Any, *, key: Array | None = None) -> dict[str, Any]:
        """Return the outputs of all layers by name. Arguments and errors are those of `apply`.

        Returns:
            For each layer its output at its last call: an array, or a list of arrays if it has several. Layers inside nested
            models are not listed.
        """
        values = self._run(params, inputs, key)
        arrays = {name: [value.array for value in outputs] for (name, _), outputs in values.items() if name in self._graph.layers}
        return {name: outputs[0] if len(outputs) == 1 else outputs for name, outputs in arrays.items()}

    def _run(self, params: Params, inputs: Any, key: Array | None) -> dict[tuple[str, int], tuple[Value, ...]]:
        checks.instance("params", params, Mapping, "model.params")
        if missing := next((name for name in self.params if name not in params), None):
            raise ValueError(f"params have no {missing!r}: pass model.params, or a tree of the same structure")
        if key is not None:
            checks.key("key", key)
        for layer in self.layers.values():
            if layer.dtype is not None:
                checks.available(f"the dtype of {self.name}", layer.dtype)
        return self._graph.run(params, tuple(map(Value, self._arrays(inputs))), key)

    def _arrays(self, inputs: Any) -> list[Array]:
        """Return the inputs in the order of the graph's inputs.

        Raises:
            ValueError: there are more or fewer than the model has, or an array does not have the declared shape.
            TypeError: an input is not an array.
        """
        names = [end.layer for end in sources(self._graph.inputs)]
        if isinstance(inputs, Mapping):
            keys = _keys(self._graph.inputs, names)
            if inputs.keys() != set(keys):
                raise ValueError(f"inputs must have the keys {', '.join(keys)}, got {', '.join(map(str, inputs))}: name them so")
            arrays = [inputs[key] for key in keys]
        else:
            arrays = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        if len(arrays) != len(names):
            raise ValueError(f"inputs must be {len(names)} arrays ({', '.join(names)}), got {len(arrays)}: pass a list or a dict")
        return [_checked(name, array, self._graph.layers.get(name)) for name, array in zip(names, arrays, strict=True)]

    @property
    def summary(self) -> str:
        """A table of the layers: their names, classes and numbers of parameters."""
        rows = [(name, layer.class_name, _size(layer.params)) for name, layer in self.layers.items()]
        widths = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
        lines = [f"{name:{widths[0]}}  {kind:{widths[1]}}  {size:>12,}" for name, kind, size in rows]
        return "\n".join([*lines, f"{self.name}: {_size(self.params):,} parameters"])

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {len(self.layers)} layers, {_size(self.params):,} parameters)"


def model(path: str | os.PathLike[str], *, dtype: Any = None) -> Model:
    """Return a whole Keras model, from a `.keras` file or the `.h5` file of a whole model, as a function with parameters.

    Neither Keras nor TensorFlow is imported, and nothing in the file is executed. Masks are followed as Keras follows them:
    Embedding with `mask_zero` and Masking create them, layers pass them on, use them or drop them, and Keras 2 and 3 differ
    where they do: after merging layers, and for recurrent layers with initial states, which Keras 3 does not mask.

    Args:
        path: the file.
        dtype: the dtype that all layers compute in. None takes the dtypes in the file, which must be float32 or float64.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: `dtype` is not floating.
        ValueError: the file is of another kind, is damaged, holds only weights, or has a layer that is not known. The message
            names the layer and its class, and says what to do.

    Differs from: in training, Keras's BatchNormalization uses the statistics of the batch, and updates the moving ones.
    """
    path, content, description = contents(path)
    compute_dtype = None if dtype is None else checks.float_dtype("dtype", dtype)
    if description is None:
        raise ValueError(f"{path} holds weights alone, which do not tell the model: save it with model.save(path)")
    result = Result(path, content)
    described.convert(result, description, None)
    version = described.version_of(result)
    entry = config.loaded(path, description)
    if "layers" not in entry["config"]:
        raise ValueError(
            f"{path} holds a model of class {quoted(entry['class_name'])}, whose layers Keras does not list: build it as a "
            "functional model, or read its recurrent layers with jlstm.convert.keras.read"
        )
    builder = Builder(result, version, compute_dtype)
    try:
        graph = builder.whole(entry)
    except UnsupportedError as error:
        raise ValueError(f"{path} cannot be run: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} has a description that is not as Keras writes it ({error!r:.100}): save it again") from error
    params, trainable = parameters(graph.layers)
    return Model(str(entry["config"].get("name", path.stem)), params, trainable, dict(_flat(graph.layers)), graph)


def _flat(layers: Mapping[str, Built], prefix: str = "") -> Any:
    """Yield the layers and those inside of them, by "outer/inner"."""
    for name, layer in layers.items():
        yield f"{prefix}{name}", layer
        yield from _flat(layer.inner, f"{prefix}{name}/")


def _keys(tree: Any, names: list[str]) -> list[str]:
    """Return the keys of a dict of inputs: those of the model's own dict of inputs, or else the names of the input layers."""
    flat = isinstance(tree, Mapping) and all(isinstance(end, Source) for end in tree.values())
    return sorted(tree) if flat else names


def _checked(name: str, array: Any, layer: Built | None) -> Array:
    array = checks.array(name, array)
    options = {} if layer is None else layer.options
    shape = options.get("batch_shape") or options.get("batch_input_shape")
    if shape is not None:
        fits = array.ndim == len(shape) and all(size in (None, n) for size, n in zip(shape, array.shape, strict=True))
        if not fits:
            shown = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(f"input {name} must have the shape ({shown}), got {array.shape}: reshape it")
    declared = jnp.dtype(options.get("dtype") or "float32") if isinstance(options.get("dtype", ""), str) else jnp.dtype("float32")
    # Indices may be declared as floats, in which 16 bits would round them; so whole numbers stay as they are.
    return array.astype(declared) if jnp.issubdtype(declared, jnp.integer) else array


def _size(params: Params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _is_value(leaf: Any) -> bool:
    return isinstance(leaf, Value) or is_source(leaf)
