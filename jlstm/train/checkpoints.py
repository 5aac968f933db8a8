"""The folder of a run's checkpoints: all that it needs to go on as if nothing had happened, written as a whole or not at all.

The last two are kept, so that a run goes on from the earlier one where the last is damaged.
"""

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array

from jlstm import io
from jlstm.cell import Params, PyTree
from jlstm.train import stored
from jlstm.train.history import History, Record
from jlstm.train.step import State

T = TypeVar("T")
_PARTS = (".part", ".orbax-checkpoint-tmp")  # the second by versions that wrote with orbax


class Snapshot(NamedTuple):
    """A moment of a run. The position in the data follows from `state.step`, since batches are functions of their position."""

    state: State
    key: Array
    best: Params | None
    history: History


class Checkpoints:
    """A folder with the last two snapshots of one run.

    Args:
        folder: where they are.
        facts: words about the run that must be the same when it goes on.
        resume: whether a run is to go on here: the folder is made if there is none, and what a killed run wrote by half is
            removed.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], facts: Mapping[str, str] = {}, *, resume: bool = False) -> None:
        self.folder, self._facts = Path(folder).absolute(), facts
        self._last: int | None = None  # the step of the last snapshot that is known to be whole
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is a file: name a folder for the checkpoints")
        if resume:
            _together(self._begin)

    def _begin(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.iterdir():
                if path.name.endswith(_PARTS):
                    _remove(path)
        except OSError as error:
            raise io.refusal(error, f"checkpoints cannot be written to {self.folder}", "name a folder elsewhere") from error

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot beside those that are there, then remove all but this one and the last.

        Raises:
            OSError: it cannot be written, in any process; what was there is still there.
        """
        step, items = int(snapshot.state.step), _items(snapshot)
        if step == self._last:
            return
        part = self.folder / f"{step}.part"
        about = {**self._facts, **stored.contents(items)}, [record._asdict() for record in snapshot.history]
        try:
            _together(lambda: part.mkdir(exist_ok=True))
            _together(lambda: stored.write(part, *about, items))
            _together(lambda: self._finish(part, step))
        except OSError as error:
            earlier = "from its beginning" if self._last is None else f"from step {self._last}"
            what = f"the checkpoint of step {step} cannot be written to {self.folder}"
            raise io.refusal(error, what, f"once it can be, start again: the run goes on {earlier}") from io.root(error)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._last = step

    def _finish(self, part: Path, step: int) -> None:
        if jax.process_index() != 0:
            return
        if (whole := self.folder / str(step)).exists():  # it is damaged, or the run would have gone on from it
            _remove(whole)
        part.replace(whole)
        for other in self._steps():
            if other not in (step, self._last):
                _remove(self.folder / str(other))

    def clear(self) -> None:
        """Remove what is there."""
        if jax.process_index() == 0:
            for step in self._steps():
                _remove(self.folder / str(step))

    def restore(self, like: Snapshot) -> Snapshot | None:
        """Return the last snapshot that is whole, if there is one, with arrays like (and where) those of `like`.

        Raises:
            OSError: it may not be read.
            ValueError: it is of another model, optimizer or kind of data, or none is whole.
        """
        items = _items(like)
        here = {**self._facts, **stored.contents(items)}

        def snapshot(checkpoint: Any) -> Snapshot:
            self._compare(checkpoint.contents, here)
            restored = checkpoint.restored(items)
            state = restored["training"]["state"]._replace(params=restored["params"])
            history = [Record(**record) for record in checkpoint.history]
            return Snapshot(state, restored["training"]["key"], restored.get("best"), history)

        damage: tuple[str, Exception] | None = None
        for step in self._steps():
            try:
                result = _together(lambda step=step: snapshot(self._read(step)))  # type: ignore[misc]
            except io.DamageError as error:
                damage = damage or (self._damage(step, error), error)
                continue
            if damage:
                warnings.warn(f"{damage[0]}: going back to that of step {step}", stacklevel=3)
            self._last = step
            return result
        if damage:
            raise ValueError(f"{damage[0]} and there is no whole one: copy one there, or give resume=False") from damage[1]
        return None

    def restore_params(self, like: Params, *, best: bool = False) -> Params:
        """Return the parameters alone: the last, or those of the best record.

        Raises:
            FileNotFoundError: there is no snapshot.
            OSError: it may not be read.
            ValueError: it is of another model, or has no best parameters, or is damaged.
        """
        if not (steps := self._steps()):
            raise FileNotFoundError(f"there is no checkpoint in {self.folder}: train with checkpoints={str(self.folder)!r} first")
        name, (last, *earlier) = "best" if best else "params", steps
        try:
            checkpoint = self._read(last)
            contents = {key: value for key, value in checkpoint.contents.items() if key == name or key.startswith(f"{name}.")}
            if best:
                self._check_best(contents, checkpoint.history)
            self._compare(contents, stored.contents({name: like}))
            return checkpoint.restored({name: like})[name]
        except io.DamageError as error:
            remedy = f"fit goes on from step {earlier[0]}, as restore does without the folder {last}" if earlier else "train anew"
            raise ValueError(f"{self._damage(last, error)}: {remedy}") from error

    def _check_best(self, contents: Mapping[str, str], history: list[dict[str, Any]]) -> None:
        if not contents:
            raise ValueError(
                f"the checkpoint in {self.folder} has no best parameters: train with validation data, or give best=False"
            )
        if not history:
            raise ValueError(f"the run in {self.folder} was stopped before its first record: go on with it, or give best=False")

    def _damage(self, step: int, error: io.DamageError) -> str:
        return f"the checkpoint of step {step} in {self.folder} is damaged ({error})"

    def _read(self, step: int) -> Any:
        folder = self.folder / str(step)
        if (folder / "_CHECKPOINT_METADATA").exists() or (folder / "about").is_dir():
            from jlstm.train import orbax_checkpoints  # a second of importing for those who go on from an older version

            return orbax_checkpoints.read(folder)
        return stored.read(folder)

    def _steps(self) -> list[int]:
        """Those of which there is a checkpoint, the last first."""
        try:
            names = [path.name for path in self.folder.iterdir() if path.is_dir()] if self.folder.exists() else []
        except OSError as error:
            raise io.refusal(error, f"checkpoints in {self.folder} cannot be read", "name a folder that can be") from error
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def _compare(self, there: Mapping[str, str], here: Mapping[str, str]) -> None:
        for name in [*here, *there]:
            if there.get(name) != here.get(name):
                raise ValueError(
                    f"the checkpoint in {self.folder} is of another run: its {name} is {there.get(name, 'missing')}, "
                    f"expected {here.get(name, 'nothing')}: give that run's model, optimizer, data and key, or another folder"
                )


def restore(folder: str | os.PathLike[str], like: Params, *, best: bool = False) -> Params:
    """Return the parameters that a run with `checkpoints=folder` left: the last, or those of its best record.

    Those of an earlier checkpoint are never returned in their place; `fit` goes on from an earlier one where the last is damaged.

    Args:
        folder: what `fit` was given as `checkpoints`.
        like: parameters of the same model, or `jax.eval_shape` of its `init`.
        best: whether to return those with the smallest validation loss.

    Raises:
        FileNotFoundError: there is no checkpoint.
        OSError: it may not be read.
        ValueError: it is of another model, or has no best parameters for want of validation data or of a first record, or is
            damaged.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(folder)}: train with checkpoints={os.fspath(folder)!r} first")
    return Checkpoints(folder).restore_params(like, best=best)


def _items(snapshot: Snapshot) -> dict[str, PyTree]:
    training = {"state": snapshot.state._replace(params=()), "key": snapshot.key}
    items = {"params": snapshot.state.params, "training": training}
    return items if snapshot.best is None else items | {"best": snapshot.best}


def _remove(path: Path) -> None:
    """Remove a folder as a whole: under its own name it is never there by half."""
    if not path.name.endswith(_PARTS):
        path = path.replace(path.with_name(f"removed-{path.name}{_PARTS[0]}"))
    shutil.rmtree(path)


def _together(action: Callable[[], T]) -> T:
    """Do something in every process of a run; if it fails in one it fails in all, which else would wait for that one forever."""
    error: Exception | None = None
    try:
        result = action()
    except (OSError, ValueError) as caught:
        error = caught
    severity = 0 if error is None else 1 if isinstance(error, io.DamageError) else 2
    worst = severity
    if jax.process_count() > 1:
        worst = int(multihost_utils.process_allgather(np.int32(severity)).max())
    if error is not None and severity == worst:
        raise error
    if worst == 1:
        raise io.DamageError("so another process says")
    if worst == 2:
        raise OSError("another process failed: see what it says")
    return result
