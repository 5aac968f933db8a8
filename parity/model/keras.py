"""Keras 3 and tf-keras: layers of a `.keras` or `.h5` file, loaded by Keras and rebuilt to return all steps and states."""

import json
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np

from parity import peers
from parity.model import keras_arrays, keras_run, keras_weights, keras_whole, keras_whole_run
from parity.model.leftovers import Contents
from parity.model.original import Original, Results
from parity.values import rounded

_peer: Any = peers.load("keras")  # with its settings of TensorFlow
keras, tf = _peer.keras, _peer.tf


def originals(
    path: str | os.PathLike[str], names: Collection[str], options: Mapping[str, Any]
) -> tuple[dict[str, Original], Contents]:
    """Load a model without executing code from it, and run the whole model once.

    If the file holds only weights, layers are built from their shapes.

    Args:
        path: the file.
        names: names of the layers, as the converter gives them; "outer/inner" in nested models.
        options: what a file of weights alone does not state, such as `recurrent_activation`.

    Returns:
        The layers by name, and what else the file holds.

    Raises:
        ValueError: the file holds code, or Keras cannot load it.
    """
    path = Path(path)
    if (is_archive := zipfile.is_zipfile(path)) != (path.suffix == ".keras"):
        ending = ".keras" if is_archive else ".h5"
        raise ValueError(f"{path} is for Keras another kind of file, because of its name: rename it, with the ending {ending}")
    config, version = _description(path)
    keras_module = framework(version, options)
    _refuse_code(path, config)
    peer, arrays = keras_module.__name__.split(".")[0], keras_arrays.read(path)
    if config is None:
        return keras_weights.originals(keras_module, path, version, arrays, names, options, partial(original, peer))
    try:
        model = keras_module.models.load_model(path, compile=False, safe_mode=True)
        layers = {name: _layer(model, name) for name in names}
    except _FAILURES as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(f"{keras_module.__name__} cannot load {path} ({reason}): save it without what it lacks") from error
    recorded, assumed = keras_run.recorded(model, layers)
    assumed += [] if path.suffix == ".keras" else [_CLASS_ASSUMPTION]
    used = {name: keras_arrays.loaded_paths(arrays, layer.weights) for name, layer in layers.items()}
    contents = keras_arrays.sort_out(arrays, used, model.weights, assumed)
    incomplete = {**contents.incomplete, **_recurrent(model, layers)}
    originals_by_name = {name: original(peer, layer, used[name], recorded.get(name)) for name, layer in layers.items()}
    # A model that could not be run above, of which `recorded` then lacks layers, cannot be run in float64 either.
    compare_whole = None
    if recorded.keys() == layers.keys():
        if reason := keras_whole.obstacle(path):
            contents = contents._replace(
                assumed=(*contents.assumed, f"the whole model is right, which was not compared: {reason}")
            )
        else:
            compare_whole = partial(keras_whole.compare, path, peer, partial(keras_whole_run.run, model))
    return originals_by_name, contents._replace(incomplete=incomplete, compare_whole=compare_whole)


def framework(version: str, options: Mapping[str, Any]) -> Any:
    """Return Keras 3, or tf-keras for files of Keras 1 and 2.

    The hard_sigmoid of Keras 2 differs. If the options name a hard_sigmoid, it decides; else the version in the file does.
    """
    gate_activation = options.get("recurrent_activation", "")
    is_keras_2 = (
        gate_activation == "hard_sigmoid_0.2" if gate_activation.startswith("hard_sigmoid") else version[:1] in ("1", "2")
    )
    return import_module("tf_keras") if is_keras_2 else keras


_CLASS_ASSUMPTION = "HDF5 names classes without their packages: those that are called like Keras's are taken to be Keras's"
# What Keras raises for a file or a configuration that it cannot read, in any of its versions.
_FAILURES = (ValueError, TypeError, KeyError, AttributeError, OSError, ImportError, RuntimeError, NotImplementedError)


def original(peer: str, layer: Any, used: frozenset[str], recorded: Any = None) -> Original:
    """Return a Keras layer as an `Original`.

    Args:
        peer: "keras" or "tf_keras".
        layer: the layer of Keras, with its weights.
        used: the paths of the file's arrays that it uses.
        recorded: what the layer did while the whole model ran; None if that was not run.
    """
    return Original(peer, layer.compute_dtype or "float32", "float64", partial(_run, layer), used, recorded)


def _recurrent(model: Any, compared: Mapping[str, Any]) -> dict[str, str]:
    """Return the model's recurrent layers that are neither compared nor part of a compared layer."""
    parts = {id(part) for layer in compared.values() for part in layer._flatten_layers()}
    # Nested models are not layers themselves; their layers are listed one by one.
    whole = {id(model), *(id(part) for part in model._flatten_layers() if hasattr(part, "layers"))}
    uncompared: dict[str, str] = {}
    for layer in model._flatten_layers():
        if id(layer) in parts | whole:
            continue
        if any(kind.__name__ in _RECURRENT or "Cell" in kind.__name__ for kind in type(layer).__mro__):
            uncompared[layer.name] = f"this {type(layer).__name__} layer is not compared"
            parts |= {id(part) for part in layer._flatten_layers()}  # its cells are not listed again
    return uncompared


_RECURRENT = ("RNN", "ConvRNN", "ConvLSTM", "Bidirectional", "LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU")


def _description(path: Path) -> tuple[Any, str]:
    """Return the model's configuration (None if there is none) and the version of Keras ("" if unknown)."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            config, metadata = (json.loads(archive.read(name)) for name in ("config.json", "metadata.json"))
        return config, str(metadata["keras_version"])
    with h5py.File(path) as file:
        attributes = file.attrs if "model_config" in file.attrs or "model_weights" not in file else file["model_weights"].attrs
        config, version = file.attrs.get("model_config"), attributes.get("keras_version", "")
    return None if config is None else json.loads(config), version.decode() if isinstance(version, bytes) else str(version)


def _refuse_code(path: Path, config: Any) -> None:
    """Raise ValueError if a configuration could make Keras run code.

    Keras's `safe_mode` is not enough: it does not cover HDF5 files in all versions.
    """
    layers = {key: value for key, value in (config or {}).items() if key != "compile_config"}  # a loss of one's own is not loaded
    for entry in _dicts(layers):
        kind, module = entry.get("class_name"), entry.get("module")
        named_function = module == "builtins" and kind == "function"  # looked up among Keras's own
        if isinstance(kind, str) and "lambda" in kind.lower():
            raise ValueError(f"{path} has a {kind[:40]} layer, which is code that is not run here: save the model without it")
        if isinstance(module, str) and module.split(".")[0] not in ("keras", "tf_keras") and not named_function:
            raise ValueError(
                f"{path} has a layer of the module {module[:40]!r}, which is not imported: save the model without it"
            )


def _dicts(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield all mappings inside, outer ones first."""
    # A stack and no recursion, which a deeply nested file would exhaust.
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _layer(model: Any, name: str) -> Any:
    for part in name.split("/"):
        model = model.get_layer(part)
    return model


def _run(layer: Any, xs: np.ndarray, lengths: np.ndarray | None, dtype: str, weights_dtype: str) -> Results:
    """Run a copy of the layer, with its weights, in another dtype, eagerly and without dropout."""
    config = json.loads(json.dumps(layer.get_config()))  # a deep copy, which is changed below
    for entry in _dicts(config):
        entry |= {key: value for key, value in _CONFIG_CHANGES.items() if key in entry}
        entry |= {"dtype": dtype} if "dtype" in entry else {}
        entry.pop("batch_input_shape", None)  # it fixes the batch size of the model's inputs
    # A new layer of the other dtype: a built layer keeps the dtype of its variables.
    copy = type(layer).from_config(config)
    copy.build((len(xs), None, *xs.shape[2:]))
    copy.set_weights([rounded(array, weights_dtype) for array in _weights(layer, sum_biases=weights_dtype == "float64")])
    inner = getattr(copy, "forward_layer", copy)
    outputs = 2 if inner is not copy and copy.merge_mode is None else 1
    mask = None if lengths is None else tf.sequence_mask(lengths, xs.shape[1])
    try:
        results = jax.tree.leaves(copy(tf.cast(xs, dtype), mask=mask, training=False))
    except tf.errors.OpError as error:
        reason = str(error).split("\n")[0][:120]
        raise ValueError(f"Keras cannot run {layer.name!r} here in {dtype} ({reason}): compare it by hand") from error
    arrays = [tf.cast(result, "float64").numpy() for result in results]
    ys = [y[:, ::-1] if inner.go_backwards else y for y in arrays[:outputs]]
    return Results(ys, arrays[outputs:])


def _weights(layer: Any, *, sum_biases: bool) -> list[np.ndarray]:
    """Return the weights; with `sum_biases`, both biases of a GRU's gates z and r are summed in their own precision.

    A converter sums them too. In float64 its rounding must not count as a difference between formulas.
    """
    weights = [np.array(array) for array in layer.get_weights()]
    names = [variable.name.split("/")[-1].split(":")[0] for variable in layer.weights]
    for name, bias in zip(names, weights, strict=True):
        if sum_biases and name == "bias" and bias.ndim == 2:
            columns = 2 * (bias.shape[1] // 3)  # of z and r, which the candidate follows
            bias[:, :columns] = bias[0, :columns] + bias[1, :columns], np.zeros(columns)
    return weights


_INITIALIZERS = ("kernel_initializer", "recurrent_initializer", "bias_initializer")  # replaced by the weights; QR has no bfloat16
_CONFIG_CHANGES = {"return_sequences": True, "return_state": True, "stateful": False, "time_major": False} | dict.fromkeys(
    _INITIALIZERS, "zeros"
)
