"""Parameters to and from safetensors files."""

import os
import uuid
from pathlib import Path

import jax
import jax.numpy as jnp
from safetensors import SafetensorError
from safetensors import flax as safetensors

from jlstm import checks
from jlstm.cell import PyTree


def save(path: str | os.PathLike[str], params: PyTree) -> None:
    """Write a tree of arrays; names are the tree's paths, such as `0.kernel` in a Stack.

    Raises:
        OSError: the file cannot be written.
        ValueError: two arrays would have the same name.

    Examples:
        >>> import jax, jlstm, tempfile
        >>> layer = jlstm.LSTM(4)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jlstm.save(f"{folder}/lstm.safetensors", params)
        ...     again = jlstm.load(f"{folder}/lstm.safetensors", like=params)
        >>> bool((again["kernel"] == params["kernel"]).all())
        True
    """
    arrays = {
        name: jnp.array(leaf) for name, leaf in _by_name(params).items()
    }  # a transposed NumPy view would be written wrongly
    write(path, safetensors.save(arrays))


def load(path: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Read a tree of arrays with the structure, shapes and dtypes of `like`: parameters, or `jax.eval_shape` of an `init`.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: `like` is no tree of arrays or shapes.
        ValueError: it is no safetensors file, or a name, a shape or a dtype in it is not that of `like`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}: save(path, params) writes one")
    if not all(hasattr(leaf, "shape") for leaf in jax.tree.leaves(like)):
        raise TypeError(f"like must be parameters or jax.eval_shape of an init, got {type(like).__name__}")
    try:
        arrays = safetensors.load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{os.fspath(path)} is not a safetensors file ({error}): save(path, params) writes one") from error
    expected = _by_name(like)
    checks.tree(os.fspath(path), arrays, expected, "load with the layer that the file was saved from")
    for name, leaf in expected.items():
        if arrays[name].dtype != leaf.dtype:
            raise ValueError(
                f"{os.fspath(path)} has {name} in {arrays[name].dtype}, expected {leaf.dtype}: load like that and cast"
            )
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in expected])


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
