"""Checkpoints as earlier versions wrote them, by orbax, without digests: they are read, no longer written."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from jlstm.cell import PyTree
from jlstm.io import DamageError
from jlstm.train.sharding import is_key


class Stored(NamedTuple):
    """What orbax left. The attributes and the method are those of `stored.Stored`."""

    contents: dict[str, str]
    history: list[dict[str, Any]]
    folder: Path

    def restored(self, like: dict[str, PyTree]) -> dict[str, Any]:
        """Return arrays like (and where) those of `like`."""
        items = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree)) for name, tree in like.items()}
        restored = _restore(self.folder, ocp.args.Composite(**items))
        return {name: jax.tree.map(_from_data, tree, restored[name]) for name, tree in like.items()}


def read(folder: Path) -> Stored:
    """Read the description of a checkpoint; its arrays are read by `Stored.restored`.

    Raises:
        DamageError: orbax cannot read it.
        ValueError: it was not written by `fit`.
    """
    if not (folder / "about").is_dir():
        raise ValueError(f"the checkpoint in {folder.parent} was not written by jlstm.train.fit: give another folder")
    about = _restore(folder, ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
    try:
        return Stored(about["contents"], about["history"], folder)
    except (KeyError, TypeError) as error:
        raise DamageError("its description is not one of a run") from error


def _restore(folder: Path, args: Any) -> Any:
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            return reader.restore(folder, args=args)
    except Exception as error:  # orbax and TensorStore raise nearly anything, over many lines, of files that are damaged
        raise DamageError(f"orbax cannot read it, {type(error).__name__}") from error


def _from_data(like: Any, data: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like)) if is_key(like) else data


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    data = jax.random.key_data(leaf) if is_key(leaf) else leaf
    sharding = getattr(data, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=sharding)
