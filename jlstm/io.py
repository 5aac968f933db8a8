"""Parameters to and from safetensors files."""

import os
from pathlib import Path

import jax
from safetensors import flax as safetensors

from jlstm import checks
from jlstm.cell import PyTree


def save(path: str | os.PathLike[str], params: PyTree) -> None:
    """Write a tree of arrays; names are the tree's paths, such as `0.kernel` in a Stack.

    The file is written beside `path` and renamed, so that an interrupted save leaves what was there.

    Raises:
        OSError: the file cannot be written.

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
    beside = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    try:
        beside.write_bytes(safetensors.save(_by_name(params)))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Read a tree of arrays with the structure and shapes of `like`: parameters, or `jax.eval_shape` of an `init`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name or a shape in the file is not that of `like`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}: save(path, params) writes one")
    arrays, expected = safetensors.load_file(path), _by_name(like)
    checks.tree(os.fspath(path), arrays, expected, "load with the layer that the file was saved from")
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in expected])


def _by_name(tree: PyTree) -> dict[str, PyTree]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
