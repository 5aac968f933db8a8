"""Checkpoints by orbax: everything that a run needs to go on as if nothing had happened, replaced as a whole or not at all."""

import os
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import orbax.checkpoint as ocp
from jaxtyping import Array

from jlstm.cell import Params, PyTree
from jlstm.train.history import History, Record
from jlstm.train.step import State


class Snapshot(NamedTuple):
    """A moment of a run. The position in the data follows from `state.step`, since batches are functions of their position."""

    state: State
    key: Array
    best: Params | None
    history: History


class Checkpoints:
    """A folder with the last snapshots of one run."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    @property
    def advice(self) -> str:
        """What to tell somebody who stopped the run."""
        return f"; the checkpoint is in {self.folder}: the same command goes on from there"

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot beside the one that is there, then remove that."""
        step = int(snapshot.state.step)
        if step == self._manager.latest_step():
            return
        items = {name: ocp.args.StandardSave(tree) for name, tree in _items(snapshot).items()}
        history = ocp.args.JsonSave([record._asdict() for record in snapshot.history])
        self._manager.save(step, args=ocp.args.Composite(history=history, **items))

    def restore(self, like: Snapshot) -> Snapshot | None:
        """Return the last snapshot that was written as a whole, if there is one, with arrays like (and where) those of `like`.

        Raises:
            ValueError: it is of another model or optimizer.
        """
        if self._manager.latest_step() is None:
            return None
        found = self._read(_items(like))
        training = found["training"]
        state = training["state"]._replace(params=found["params"])
        key = jax.random.wrap_key_data(training["key"], impl=jax.random.key_impl(like.key))
        return Snapshot(state, key, found.get("best"), [Record(**record) for record in found["history"]])

    def restore_params(self, like: Params, *, best: bool = False) -> Params:
        """Return the parameters alone: the last, or those of the best record.

        Raises:
            FileNotFoundError: there is no snapshot.
            ValueError: it is of another model, or has no best parameters.
        """
        if self._manager.latest_step() is None:
            raise FileNotFoundError(f"there is no checkpoint in {self.folder}: train with checkpoints={str(self.folder)!r} first")
        name = "best" if best else "params"
        return self._read({name: like})[name]

    def _read(self, like: dict[str, PyTree]) -> dict[str, Any]:
        items = {name: ocp.args.StandardRestore(jax.tree.map(_shape, tree)) for name, tree in like.items()}
        try:
            return self._manager.restore(None, args=ocp.args.Composite(history=ocp.args.JsonRestore(), **items))
        except (ValueError, KeyError, FileNotFoundError) as error:
            raise ValueError(
                f"the checkpoint in {self.folder} is of another model, optimizer or kind of data: give another folder ({error})"
            ) from error


def restore(folder: str | os.PathLike[str], like: Params, *, best: bool = False) -> Params:
    """Return the parameters that a run with `checkpoints=folder` left: the last, or those of its best record.

    Args:
        folder: what `fit` was given as `checkpoints`.
        like: parameters of the same model, or `jax.eval_shape` of its `init`.
        best: whether to return those with the smallest validation loss.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is of another model, or has no best parameters for want of validation data.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(folder)}: train with checkpoints={os.fspath(folder)!r} first")
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore_params(like, best=best)


def _items(snapshot: Snapshot) -> dict[str, PyTree]:
    training = {"state": snapshot.state._replace(params=()), "key": jax.random.key_data(snapshot.key)}
    items = {"params": snapshot.state.params, "training": training}
    return items if snapshot.best is None else items | {"best": snapshot.best}


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))
