"""Parameters, and the layers that they are for, to and from safetensors files."""

import os
import uuid
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from safetensors import SafetensorError, safe_open
from safetensors import flax as safetensors

from jlstm import checks
from jlstm.cell import Params, PyTree
from jlstm.description import build, describe, features_in
from jlstm.layers import Layer, param_shapes

_FORMAT, _VERSION = "jlstm", 1


def save(path: str | os.PathLike[str], params: PyTree, *, layer: Layer | None = None) -> None:
    """Write a tree of arrays; names are the tree's paths, such as `0.kernel` in a Stack. With the layer, `load_layer` reads both.

    Raises:
        OSError: the file cannot be written.
        ValueError: two arrays would have the same name, parameters are not the layer's, or the layer has an option that is a
            function or a class that is not of jlstm.

    Examples:
        >>> import jax, jlstm, tempfile
        >>> layer = jlstm.LSTM(4)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jlstm.save(f"{folder}/lstm.safetensors", params, layer=layer)
        ...     again = jlstm.load(f"{folder}/lstm.safetensors", like=params)
        ...     known, same = jlstm.load_layer(f"{folder}/lstm.safetensors")
        >>> bool((again["kernel"] == params["kernel"]).all())
        True
        >>> known == layer
        True
    """
    if not jax.tree.leaves(params):
        raise TypeError(f"params must be a tree of arrays, got {checks.brief(params)}: pass what init returned")
    metadata = None
    if layer is not None:
        text, features = describe(layer), features_in(layer, params)
        checks.tree("params", params, param_shapes(layer, features), "pass the parameters of this layer")
        metadata = {"format": _FORMAT, "version": str(_VERSION), "layer": text, "features": str(features)}
    arrays = {
        name: jnp.array(leaf) for name, leaf in _by_name(params).items()
    }  # a transposed NumPy view would be written wrongly
    write(path, safetensors.save(arrays, metadata))


def load(path: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Read a tree of arrays with the structure, shapes and dtypes of `like`: parameters, or `jax.eval_shape` of an `init`.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: `like` is no tree of arrays or shapes.
        ValueError: it is no safetensors file, or a name, a shape or a dtype in it is not that of `like`.
    """
    leaves = jax.tree.leaves(like)  # a layer has none
    if not leaves or not all(hasattr(leaf, "shape") for leaf in leaves):
        raise TypeError(f"like must be parameters or jax.eval_shape of an init, got {type(like).__name__}")
    arrays, _ = _read(path)
    expected = _by_name(like)
    for name, leaf in expected.items():
        if name in arrays and arrays[name].dtype != leaf.dtype:
            raise ValueError(
                f"{os.fspath(path)} has {name} in {arrays[name].dtype}, expected {leaf.dtype}: load like that and cast"
            )
    checks.tree(os.fspath(path), arrays, expected, "load with the layer that the file was saved from")
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in expected])


def load_layer(path: str | os.PathLike[str]) -> tuple[Layer, Params]:
    """Read a layer and its parameters, which `save(path, params, layer=layer)` wrote. Nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no safetensors file or none with a layer, one of a later version, arrays that are not the layer's, or that
            are float64 while JAX has it off.
    """
    arrays, metadata = _read(path, exact=True)
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{os.fspath(path)} has no layer in it: read its arrays with load, or save them with layer=")
    if metadata.get("version") != str(_VERSION):
        version = metadata.get("version", "none")[:40]
        raise ValueError(f"{os.fspath(path)} has version {version!r}, expected '{_VERSION}': update jlstm")
    try:
        layer, features = build(metadata.get("layer", "")), int(metadata.get("features", ""))
        expected = param_shapes(layer, features)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{os.fspath(path)} does not describe a layer ({_line(error)}): save it again") from error
    names = _by_name(expected)
    checks.tree(os.fspath(path), arrays, names, "its arrays are not those of the layer in it, so save both again")
    if wrong := [name for name, array in arrays.items() if not jnp.issubdtype(array.dtype, jnp.floating)]:
        raise ValueError(f"{os.fspath(path)} has {wrong[0]} in {arrays[wrong[0]].dtype}, expected floating: save it again")
    return layer, jax.tree.unflatten(jax.tree.structure(expected), [arrays[name] for name in names])


def _read(path: str | os.PathLike[str], *, exact: bool = False) -> tuple[dict[str, Array], dict[str, str]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}: save(path, params) writes one")
    try:
        with safe_open(path, "flax") as file:
            names = file.keys()
            if exact and any(file.get_slice(name).get_dtype() == "F64" for name in names):
                checks.available(os.fspath(path), np.dtype("float64"))
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{os.fspath(path)} is not a safetensors file ({_line(error)}): save(path, params) writes one"
        ) from error


def _line(error: Exception) -> str:
    return str(error).split("\n")[0][:300]


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file beside `path` and rename it, so that an interrupted write leaves what was there."""
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"there is no folder {Path(path).parent} to write {Path(path).name} to: make it first")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{os.fspath(path)} is a folder: name a file in it")
    beside = Path(path).with_name(f".{Path(path).name}.{uuid.uuid4().hex}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _by_name(tree: PyTree) -> dict[str, PyTree]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]
    for k, (name, _) in enumerate(named):
        if any(name == other for other, _ in named[:k]):
            raise ValueError(f"two arrays would be called {name!r}: rename a key that has a dot in it")
    return dict(named)
