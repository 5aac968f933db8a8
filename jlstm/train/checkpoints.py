"""Checkpoints by orbax: everything that a run needs to go on as if nothing had happened, replaced as a whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array

from jlstm.cell import Params, PyTree
from jlstm.train.history import History, Record
from jlstm.train.sharding import is_key
from jlstm.train.step import State


class Snapshot(NamedTuple):
    """A moment of a run. The position in the data follows from `state.step`, since batches are functions of their position."""

    state: State
    key: Array
    best: Params | None
    history: History


class _Manager(ocp.CheckpointManager):
    """Orbax' own, which does not ask JAX whether a process is to stop: that asks by step, `SharedInterruption` by count."""

    def reached_preemption(self, step: int) -> bool:  # noqa: ARG002
        """Never ask."""
        return False


class Checkpoints:
    """A folder with the last snapshot of one run.

    Args:
        folder: made if there is none.
        facts: words about the run that must be the same when it goes on.
        resume: whether a run is to go on here, after which nothing is left of what another one, killed, wrote by half.
    """

    def __init__(self, folder: str | os.PathLike[str], facts: Mapping[str, str] = {}, *, resume: bool = False) -> None:
        self.folder, self._facts = Path(folder).absolute(), facts
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is a file: name a folder for the checkpoints")
        options = {"max_to_keep": 1, "enable_async_checkpointing": False, "cleanup_tmp_directories": resume}
        self._manager = _Manager(self.folder, options=ocp.CheckpointManagerOptions(**options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot beside the one that is there, then remove that."""
        items = _items(snapshot)
        about = {"contents": {**self._facts, **_contents(items)}, "history": [record._asdict() for record in snapshot.history]}
        arrays = {name: ocp.args.StandardSave(jax.tree.map(_data, tree)) for name, tree in items.items()}
        self._manager.save(int(snapshot.state.step), args=ocp.args.Composite(about=ocp.args.JsonSave(about), **arrays))

    def clear(self) -> None:
        """Remove what is there."""
        for step in self._manager.all_steps():
            self._manager.delete(step)

    def restore(self, like: Snapshot) -> Snapshot | None:
        """Return the last snapshot that was written as a whole, if there is one, with arrays like (and where) those of `like`.

        Raises:
            ValueError: it is of another model, optimizer or kind of data.
        """
        if self._manager.latest_step() is None:
            return None
        about, items = self._about(), _items(like)
        self._compare(about["contents"], {**self._facts, **_contents(items)})
        found = self._read(items)
        state = found["training"]["state"]._replace(params=found["params"])
        return Snapshot(state, found["training"]["key"], found.get("best"), [Record(**record) for record in about["history"]])

    def restore_params(self, like: Params, *, best: bool = False) -> Params:
        """Return the parameters alone: the last, or those of the best record.

        Raises:
            FileNotFoundError: there is no snapshot.
            ValueError: it is of another model, or has no best parameters.
        """
        if self._manager.latest_step() is None:
            raise FileNotFoundError(f"there is no checkpoint in {self.folder}: train with checkpoints={str(self.folder)!r} first")
        name, about = "best" if best else "params", self._about()
        contents = {key: value for key, value in about["contents"].items() if key.startswith(f"{name}.")}
        if best and contents and not about["history"]:
            raise ValueError(f"the run in {self.folder} was stopped before its first record: go on with it, or give best=False")
        if not contents:
            raise ValueError(
                f"the checkpoint in {self.folder} has no best parameters: train with validation data, or give best=False"
            )
        self._compare(contents, _contents({name: like}))
        return self._read({name: like})[name]

    def _about(self) -> dict[str, Any]:
        try:
            return self._manager.restore(None, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
        except (KeyError, FileNotFoundError) as error:
            raise ValueError(
                f"the checkpoint in {self.folder} was not written by jlstm.train.fit: give another folder"
            ) from error

    def _compare(self, there: Mapping[str, str], here: Mapping[str, str]) -> None:
        """Orbax casts what has another dtype, and where a shape differs leaves threads behind that complain at exit."""
        for name in [*here, *there]:
            if there.get(name) != here.get(name):
                raise ValueError(
                    f"the checkpoint in {self.folder} is of another run: its {name} is {there.get(name, 'missing')}, "
                    f"expected {here.get(name, 'nothing')}: give that run's model, optimizer, data and key, or another folder"
                )

    def _read(self, like: dict[str, PyTree]) -> dict[str, Any]:
        items = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree)) for name, tree in like.items()}
        found = self._manager.restore(None, args=ocp.args.Composite(**items))
        return {name: jax.tree.map(_from_data, tree, found[name]) for name, tree in like.items()}


def restore(folder: str | os.PathLike[str], like: Params, *, best: bool = False) -> Params:
    """Return the parameters that a run with `checkpoints=folder` left: the last, or those of its best record.

    Args:
        folder: what `fit` was given as `checkpoints`.
        like: parameters of the same model, or `jax.eval_shape` of its `init`.
        best: whether to return those with the smallest validation loss.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is of another model, or has no best parameters for want of validation data or of a first record.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(folder)}: train with checkpoints={os.fspath(folder)!r} first")
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore_params(like, best=best)


def _items(snapshot: Snapshot) -> dict[str, PyTree]:
    training = {"state": snapshot.state._replace(params=()), "key": snapshot.key}
    items = {"params": snapshot.state.params, "training": training}
    return items if snapshot.best is None else items | {"best": snapshot.best}


def _contents(items: dict[str, PyTree]) -> dict[str, str]:
    """Every array's name, dtype and shape."""
    return {
        f"{name}.{jax.tree_util.keystr(path, simple=True, separator='.')}": f"{leaf.dtype}{list(leaf.shape)}"
        for name, tree in items.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def _from_data(like: Any, data: Array) -> Array:
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like)) if is_key(like) else data


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    data = _data(leaf)
    sharding = getattr(data, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=sharding)
