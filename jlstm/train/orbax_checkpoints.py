"""Reader for the checkpoints that earlier versions wrote with orbax, without digests."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from jlstm._src.serialization import DamageError
from jlstm.cell import PyTree
from jlstm.train.sharding import is_key

_SKIPPED = "skipped"  # a sum in `State.sums` that these versions did not have


class Stored(NamedTuple):
    """A checkpoint that orbax wrote. It has the same interface as `stored.Stored`, except that it reads arrays on demand."""

    contents: dict[str, str]
    history: list[dict[str, Any]]
    folder: Path

    def restored(self, like: dict[str, PyTree]) -> dict[str, Any]:
        """Return the arrays with the shardings of `like`. The number of skipped steps, which these files lack, is zero."""
        trees = {name: _without_skipped(tree) if name == "training" else tree for name, tree in like.items()}
        items = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree)) for name, tree in trees.items()}
        restored = _restore(self.folder, ocp.args.Composite(**items))
        results = {name: jax.tree.map(_from_data, tree, restored[name]) for name, tree in trees.items()}
        if "training" in results:
            state = results["training"]["state"]
            zero = jnp.zeros_like(state.sums["weight"])
            results["training"]["state"] = state._replace(sums=state.sums | {_SKIPPED: zero})
        return results


def read(folder: Path) -> Stored:
    """Read the description of a checkpoint. `Stored.restored` reads its arrays.

    Raises:
        DamageError: Orbax cannot read the checkpoint.
        ValueError: `fit` did not write the checkpoint.
    """
    if not (folder / "about").is_dir():
        raise ValueError(f"the checkpoint in {folder.parent} was not written by jlstm.train.fit: give another folder")
    about = _restore(folder, ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
    try:
        # The missing sum is described like another one, since all sums have the same shape and dtype.
        contents = about["contents"] | {f"training.state.sums.{_SKIPPED}": about["contents"]["training.state.sums.weight"]}
        return Stored(contents, about["history"], folder)
    except (KeyError, TypeError) as error:
        raise DamageError("its description is not one of a run") from error


def _without_skipped(training: PyTree) -> PyTree:
    state = training["state"]
    return training | {"state": state._replace(sums={name: total for name, total in state.sums.items() if name != _SKIPPED})}


def _restore(folder: Path, args: Any) -> Any:
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            return reader.restore(folder, args=args)
    except Exception as error:  # damaged files make orbax and TensorStore raise many types, with long messages
        raise DamageError(f"orbax cannot read it, {type(error).__name__}") from error


def _from_data(like: Any, data: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like)) if is_key(like) else data


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    data = jax.random.key_data(leaf) if is_key(leaf) else leaf
    sharding = getattr(data, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=sharding)
