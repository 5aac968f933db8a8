"""Keras 3 and tf-keras: the layers of a `.keras` or `.h5` file, loaded by Keras, built anew to return all steps and states."""

import json
import os
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jlstm.convert import files, hdf5
from parity import peers
from parity.case import rounded
from parity.model import keras_weights
from parity.model.original import Original, Results

_peer = peers.load("keras")  # with its settings of TensorFlow
keras, tf = _peer.keras, _peer.tf


def originals(path: str | os.PathLike[str], names: Collection[str]) -> dict[str, Original]:
    """Load a model, nothing of which is executed, and return its layers of these names, "outer/inner" in nested models.

    Of a file with weights alone, layers are built from their shapes.

    Raises:
        ValueError: the file has weights alone, holds code, or Keras cannot load it.
    """
    path = Path(path)
    config, version = _description(path)
    framework = files.needed("tf_keras", path) if version[:1] in ("1", "2") else keras  # weights alone may not tell
    _refuse_code(path, config)
    try:
        if config is None:
            found = {name: keras_weights.layer(framework, path, name) for name in names}
        else:
            model = framework.models.load_model(path, compile=False, safe_mode=True)
            found = {name: _layer(model, name) for name in names}
    except (ValueError, TypeError, KeyError, AttributeError, OSError, ImportError, RuntimeError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(f"{framework.__name__} cannot load {path} ({reason}): save it without what it lacks") from error
    peer = framework.__name__.split(".")[0]
    return {
        name: Original(peer, layer.compute_dtype or "float32", "float64", partial(_run, layer)) for name, layer in found.items()
    }


def _description(path: Path) -> tuple[Any, str]:
    """The model's, if the file has one, and the version of Keras, if it is known."""
    if path.suffix == ".keras":
        with files.members(path) as archive:
            held = [json.loads(files.member(path, archive, name)) for name in ("config.json", "metadata.json")]
        return held[0], str(held[1]["keras_version"])
    content = hdf5.read(path, files.mapped(path))
    return None if content.config is None else json.loads(content.config), content.version


def _refuse_code(path: Path, config: Any) -> None:
    """Refuse what a description may have Keras run, besides `safe_mode`: it does not cover HDF5 files in all versions."""
    layers = {key: value for key, value in (config or {}).items() if key != "compile_config"}  # a loss of one's own is not loaded
    for entry in _dicts(layers):
        kind, module = entry.get("class_name"), entry.get("module")
        named_function = module == "builtins" and kind == "function"  # looked up among Keras' own
        if isinstance(kind, str) and "lambda" in kind.lower():
            raise ValueError(f"{path} has a {kind[:40]} layer, which is code that is not run here: save the model without it")
        if isinstance(module, str) and module.split(".")[0] not in ("keras", "tf_keras") and not named_function:
            raise ValueError(
                f"{path} has a layer of the module {module[:40]!r}, which is not imported: save the model without it"
            )


def _dicts(tree: Any) -> Iterator[dict[str, Any]]:
    """All mappings inside, the outer ones first."""
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _layer(model: Any, name: str) -> Any:
    for part in name.split("/"):
        model = model.get_layer(part)
    return model


def _run(layer: Any, xs: np.ndarray, dtype: str, weights_as: str) -> Results:
    """Run a layer like this one, with its weights, in another dtype, eagerly and without dropout."""
    config = json.loads(json.dumps(layer.get_config()))  # a copy, to change
    for entry in _dicts(config):
        entry |= {key: value for key, value in _CHANGES.items() if key in entry}
        entry |= {"dtype": dtype} if "dtype" in entry else {}
        entry.pop("batch_input_shape", None)
    again = type(layer).from_config(config)
    again.build((len(xs), None, xs.shape[-1]))
    again.set_weights([rounded(array, weights_as) for array in _weights(layer, added=weights_as == "float64")])
    inner = getattr(again, "forward_layer", again)
    outputs = 2 if inner is not again and again.merge_mode is None else 1
    results = jax.tree.leaves(again(tf.cast(xs, dtype), training=False))
    arrays = [tf.cast(one, "float64").numpy() for one in results]
    ys = [y[:, ::-1] if inner.go_backwards else y for y in arrays[:outputs]]
    return Results(ys, arrays[outputs:])


def _weights(layer: Any, *, added: bool) -> list[np.ndarray]:
    """The weights, and if asked with the two biases of a GRU's gates z and r added into one, in their own precision.

    A converter does that too; what it rounds is then not taken for a difference of formulas, in float64.
    """
    weights = [np.array(array) for array in layer.get_weights()]
    names = [variable.name.split("/")[-1].split(":")[0] for variable in layer.weights]
    for name, bias in zip(names, weights, strict=True):
        if added and name == "bias" and bias.ndim == 2:
            gates = 2 * (bias.shape[1] // 3)
            bias[:, :gates] = bias[0, :gates] + bias[1, :gates], np.zeros(gates)
    return weights


_DRAWN = ("kernel_initializer", "recurrent_initializer", "bias_initializer")  # replaced by the weights; QR has no bfloat16
_CHANGES = {"return_sequences": True, "return_state": True, "stateful": False} | dict.fromkeys(_DRAWN, "zeros")
