"""Save parameters and layers to safetensors files with digests, and load them."""

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import Array
from safetensors import SafetensorError

from jlstm._src import checks, digests
from jlstm._src.arguments import answered
from jlstm._src.description import build, describe
from jlstm.cell import Params, PyTree
from jlstm.layers import Layer, param_shapes
from jlstm.layers.shapes import check_params

_FORMAT, _VERSION = "jlstm", 1
_DTYPES = {"BOOL": "bool", "BF16": "bfloat16", "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_DTYPES |= {f"F{bits}": f"float{bits}" for bits in (16, 32, 64)}
_DTYPES |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)} | {f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}


@answered("save")
def save(path: str | os.PathLike[str], params: PyTree, *, layer: Layer | None = None) -> None:
    """Save a tree of arrays to a safetensors file.

    Args:
        path: the file.
        params: a tree of arrays. Their names in the file are their paths in the tree, such as `0.kernel` in a Stack.
        layer: the layer of the parameters. If it is passed, `load_layer` reads the layer and the parameters.

    Raises:
        OSError: the file cannot be written.
        TypeError: `path` is not a path, `params` has no arrays, or `layer` is not a Layer.
        ValueError: two arrays would have the same name, an array has a dtype that safetensors files do not have, `params` are not
            those of the layer, or the layer has an option that is a function or a class that is not part of jlstm.

    Examples:
        >>> import jax, jlstm, tempfile
        >>> layer = jlstm.LSTM(4)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jlstm.save(f"{folder}/lstm.safetensors", params, layer=layer)
        ...     same_layer, same_params = jlstm.load_layer(f"{folder}/lstm.safetensors")
        >>> same_layer == layer, bool((same_params["kernel"] == params["kernel"]).all())
        (True, True)
    """
    checks.path("path", path)
    if not jax.tree.leaves(params):
        raise TypeError(f"params must be a tree of arrays, got {checks.brief(params)}: pass what init returned")
    metadata: dict[str, str] = {}
    if layer is not None:
        text, features = describe(layer), check_params(layer, params)
        metadata = {"format": _FORMAT, "version": str(_VERSION), "layer": text, "features": str(features)}
    write(path, pack(by_name(params), metadata))


@answered("load")
def load(path: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Load a tree of arrays.

    Args:
        path: the file.
        like: a tree with the same structure, shapes and dtypes: parameters, or what `jax.eval_shape` returns for an `init`.

    Returns:
        The arrays, in the structure of `like`.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: `path` is not a path, or `like` is not a tree of arrays or shapes.
        ValueError: the file is damaged or is not a safetensors file, a name, shape or dtype in it differs from that in `like`, or
            it has float64 arrays while JAX has float64 off.

    Examples:
        >>> import jax, jlstm, tempfile
        >>> layer = jlstm.LSTM(4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jlstm.save(f"{folder}/lstm.safetensors", layer.init(jax.random.key(0), features=3))
        ...     params = jlstm.load(f"{folder}/lstm.safetensors", like=jlstm.layers.param_shapes(layer, 3))
        >>> params["kernel"].shape
        (3, 16)
    """
    leaves = jax.tree.leaves(like)  # a layer has none
    if not leaves or not all(hasattr(leaf, "shape") for leaf in leaves):
        raise TypeError(f"like must be parameters or jax.eval_shape of an init, got {type(like).__name__}")
    arrays, _ = _read(path)
    expected = by_name(like)
    for name, leaf in expected.items():
        if name in arrays and arrays[name].dtype != leaf.dtype:
            stored = arrays[name].dtype
            problem = f"{os.fspath(path)} has {name} in {stored}, expected {leaf.dtype}"
            raise ValueError(f"{problem}: pass {stored} arrays as like, and cast the result")
    checks.tree(os.fspath(path), arrays, expected, "load with the layer that the file was saved from")
    return jax.tree.unflatten(jax.tree.structure(like), [_on_device(path, arrays[name]) for name in expected])


@answered("load_layer")
def load_layer(path: str | os.PathLike[str]) -> tuple[Layer, Params]:
    """Load a layer and its parameters, which `save(path, params, layer=layer)` wrote. No code in the file is executed.

    Args:
        path: the file.

    Returns:
        The layer and its parameters.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: `path` is not a path.
        ValueError: the file is damaged or is not a safetensors file, has no layer, has another format version, has arrays that
            are not those of the layer, or has float64 arrays while JAX has float64 off.

    Examples:
        >>> import jax, jlstm, tempfile
        >>> layer = jlstm.LSTM(4, reverse=True)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jlstm.save(f"{folder}/lstm.safetensors", layer.init(jax.random.key(0), features=3), layer=layer)
        ...     layer, params = jlstm.load_layer(f"{folder}/lstm.safetensors")
        >>> layer
        RNN(cell=LSTMCell(units=4), reverse=True)
    """
    arrays, metadata = _read(path)
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{os.fspath(path)} has no layer in it: read its arrays with load, or save them with layer=")
    if metadata.get("version") != str(_VERSION):
        version = metadata.get("version", "none")[:40]
        raise ValueError(f"{os.fspath(path)} has version {version!r}, expected '{_VERSION}': update jlstm")
    try:
        layer, features = build(metadata.get("layer", "")), int(metadata.get("features", ""))
        expected = param_shapes(layer, features)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{os.fspath(path)} does not describe a layer ({first_line(error)}): save it again") from error
    names = by_name(expected)
    checks.tree(os.fspath(path), arrays, names, "its arrays are not those of the layer in it, so save both again")
    if wrong := [name for name, array in arrays.items() if not jnp.issubdtype(array.dtype, jnp.floating)]:
        raise ValueError(f"{os.fspath(path)} has {wrong[0]} in {arrays[wrong[0]].dtype}, expected floating: save it again")
    return layer, jax.tree.unflatten(jax.tree.structure(expected), [_on_device(path, arrays[name]) for name in names])


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the metadata of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or is not a safetensors file.
    """
    if checks.path("path", path).is_dir():
        raise FileNotFoundError(f"{os.fspath(path)} is a folder, expected a file: name a file in it")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}: save(path, params) writes one")
    try:
        return unpack(Path(path).read_bytes())
    except DamageError as error:  # before ValueError, of which it is a subclass
        raise ValueError(f"{os.fspath(path)} is damaged ({error}): take another copy of it, or save it again") from error
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is not a safetensors file ({error}): save(path, params) writes one") from error


class DamageError(ValueError):
    """The content of a file differs from what was written, according to its digests."""


def pack(arrays: Mapping[str, Any], metadata: Mapping[str, str] = {}) -> bytes:
    """Return the content of a safetensors file with arrays, metadata and their digests.

    Raises:
        ValueError: an array has a dtype that such a file cannot hold.
    """
    contiguous = {name: np.asarray(leaf, order="C") for name, leaf in arrays.items()}
    for name, array in contiguous.items():
        if array.dtype.name not in _DTYPES.values():
            raise ValueError(f"{name} is {array.dtype.name}, which safetensors files cannot hold: cast it to another dtype")
    return bytes(safetensors.numpy.save(contiguous, digests.signed(contiguous, metadata)))


def unpack(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the metadata of a safetensors file.

    Raises:
        DamageError: arrays or metadata do not match the digests in the file.
        ValueError: `content` is not a safetensors file.
    """
    try:
        tensors = safetensors.deserialize(content)
    except SafetensorError as error:
        raise ValueError(first_line(error)) from error
    if unsupported := [tensor["dtype"] for _, tensor in tensors if tensor["dtype"] not in _DTYPES]:
        raise ValueError(f"its arrays have the dtype {unsupported[0]}, which JAX does not have")
    arrays = {name: _array(tensor["data"], tensor["dtype"], tensor["shape"]) for name, tensor in tensors}
    metadata = _metadata(content)
    if damage := digests.damage(arrays, metadata):
        raise DamageError(damage)
    return arrays, metadata


# `safetensors.numpy.load` cannot read bfloat16 and the 8-bit floats, which NumPy lacks. Here `jnp.dtype` knows them.
def _array(data: bytes, dtype: str, shape: Sequence[int]) -> np.ndarray:
    return np.frombuffer(data, jnp.dtype(_DTYPES[dtype])).reshape(shape)


def _metadata(content: bytes) -> dict[str, str]:
    """Return the metadata in the header of a safetensors file: eight bytes with the length of the header, then JSON."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header.get("__metadata__") or {})


def _on_device(path: str | os.PathLike[str], array: np.ndarray) -> Array:
    """Return a JAX array. Raise ValueError for float64 while JAX has it off."""
    checks.available(os.fspath(path), array.dtype)
    return jnp.array(array)


def first_line(error: Exception) -> str:
    """Return the first line of an error message, at most 150 characters of it."""
    return str(error).split("\n")[0][:150]


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: write a temporary file beside `path` and rename it. An interrupted write leaves the old file.

    Raises:
        OSError: the file cannot be written. It is a FileNotFoundError if there is no such folder, and an IsADirectoryError if
            `path` is a folder.
        TypeError: `path` is not a path.
    """
    if not checks.path("path", path).parent.is_dir():
        raise FileNotFoundError(f"there is no folder {Path(path).parent} to write {Path(path).name} to: make it first")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{os.fspath(path)} is a folder: name a file in it")
    # Without the file's own name, which may already be as long as the file system allows.
    temporary = Path(path).with_name(f".jlstm-{uuid.uuid4().hex}")
    try:
        # The file has no buffer, since closing a buffered one would raise the error of a full disk a second time. Without one,
        # `write` may write only a part.
        with temporary.open("wb", buffering=0) as file:
            remaining = memoryview(content)
            while remaining:
                remaining = remaining[file.write(remaining) :]
            os.fsync(file.fileno())  # some file systems notice only here that there is no room
        temporary.replace(path)
    except OSError as error:
        raise refusal(error, f"{os.fspath(path)} cannot be written", "make room, or name a file elsewhere") from error
    finally:
        with suppress(OSError):  # if the disk is gone, the error above already says so
            temporary.unlink(missing_ok=True)


def refusal(error: OSError, problem: str, remedy: str) -> OSError:
    """Return an error of the same class and number as `error`, with a message of one sentence.

    Args:
        error: the error to explain.
        problem: what failed, as a clause: "a.safetensors cannot be written".
        remedy: what the user can do.
    """
    error = root(error)
    kind = type(error) if type(error).__module__ == "builtins" else OSError
    sentence = kind(f"{problem} ({error.strerror or first_line(error)}): {remedy}")
    sentence.errno = error.errno
    return sentence


def root(error: OSError) -> OSError:
    """Return the operating system's error from which this one was raised."""
    return root(error.__cause__) if isinstance(error.__cause__, OSError) else error


def by_name(tree: PyTree) -> dict[str, Any]:
    """Return the leaves of a tree by their paths, such as `0.kernel`.

    Raises:
        ValueError: two leaves have the same path.
    """
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in named:
            raise ValueError(f"two arrays would be called {name[:60]!r}: rename a key that has a dot in it")
        named[name] = leaf
    return named
