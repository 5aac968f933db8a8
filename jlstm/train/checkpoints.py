"""Atomic checkpoints of a training run, from which the run resumes exactly.

The folder keeps the last two checkpoints. If the last one is damaged, the run resumes from the earlier one.
"""

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array

from jlstm._src import checks, serialization
from jlstm._src.packages import needed_by
from jlstm.cell import Params, PyTree
from jlstm.train import stored
from jlstm.train.arguments import check_tree
from jlstm.train.history import History, Record
from jlstm.train.step import State

T = TypeVar("T")
# Suffixes of unfinished folders. Older versions wrote checkpoints with orbax, which uses the second one.
_UNFINISHED = (".part", ".orbax-checkpoint-tmp")


class Snapshot(NamedTuple):
    """The complete state of a run after a step.

    The position in the data needs no field: batches are a function of their position, which follows from `state.step`.
    """

    state: State
    key: Array
    best: Params | None
    history: History


class Checkpoints:
    """A folder with the last two snapshots of one run.

    Args:
        folder: Path of the folder.
        facts: Descriptions of the run by name. A resumed run must have the same ones.
        resume: Whether a run will write to the folder. If so, the folder is created, and unfinished files of a killed run are
            removed.

    Raises:
        OSError: The folder cannot be created.
    """

    def __init__(self, folder: str | os.PathLike[str], facts: Mapping[str, str] = {}, *, resume: bool = False) -> None:
        self.folder, self._facts = Path(folder).absolute(), facts
        self._last: int | None = None  # step of the last snapshot that is known to be complete
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is a file: name a folder for the checkpoints")
        if resume:
            _together(self._prepare_folder)

    def _prepare_folder(self) -> None:
        """Create the folder, and remove the unfinished files of a killed run."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # One process removes them: on a shared folder, another would find a file that has just gone.
            for path in self.folder.iterdir() if jax.process_index() == 0 else ():
                if path.name.endswith(_UNFINISHED):
                    _remove(path)
        except OSError as error:
            raise serialization.refusal(
                error, f"checkpoints cannot be written to {self.folder}", "name a folder elsewhere"
            ) from error

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot, then remove all snapshots but this one and the previous one.

        Raises:
            OSError: The snapshot cannot be written in some process. Earlier snapshots remain.
        """
        step, items = int(snapshot.state.step), _items(snapshot)
        if step == self._last:
            return
        part = self.folder / f"{step}.part"
        contents, history = {**self._facts, **stored.contents(items)}, [record._asdict() for record in snapshot.history]
        try:
            # Each stage is a barrier: the folder is renamed only after every process has written its file.
            _together(lambda: part.mkdir(exist_ok=True))
            _together(lambda: stored.write(part, contents, history, items))
            _together(lambda: self._finish(part, step))
        except OSError as error:
            earlier = "from its beginning" if self._last is None else f"from step {self._last}"
            problem = f"the checkpoint of step {step} cannot be written to {self.folder}"
            raise serialization.refusal(
                error, problem, f"once it can be, start again: the run goes on {earlier}"
            ) from serialization.root(error)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._last = step

    def _finish(self, part: Path, step: int) -> None:
        if jax.process_index() != 0:
            return
        if (target := self.folder / str(step)).exists():  # damaged: the run would have resumed from an intact one
            _remove(target)
        part.replace(target)
        # The previous complete snapshot stays, in case this one is damaged later. Old ones are removed only after the rename, so
        # that a complete snapshot exists at any time.
        for old_step in self._steps():
            if old_step not in (step, self._last):
                _remove(self.folder / str(old_step))

    def clear(self) -> None:
        """Remove all snapshots."""

        def remove() -> None:
            if jax.process_index() == 0:
                for step in self._steps():
                    _remove(self.folder / str(step))

        _together(remove)  # no process may look for snapshots before all are gone

    def restore(self, like: Snapshot) -> Snapshot | None:
        """Return the last intact snapshot.

        Args:
            like: A snapshot whose arrays have the expected shapes, dtypes and shardings.

        Returns:
            The snapshot, with the shardings of `like`, or None if the folder has none.

        Raises:
            OSError: A file cannot be read.
            ValueError: The snapshot belongs to another model, optimizer, key or kind of data, or every snapshot is damaged.
        """
        items = _items(like)
        expected = {**self._facts, **stored.contents(items)}

        def snapshot(step: int) -> Snapshot:
            checkpoint = self._read(step)
            self._compare(checkpoint.contents, expected)
            restored = checkpoint.restored(items)
            state = State(*restored["training"]["state"])._replace(params=restored["params"])
            history = [Record(**record) for record in checkpoint.history]
            return Snapshot(state, restored["training"]["key"], restored.get("best"), history)

        damage: tuple[str, Exception] | None = None
        # All processes go through the same steps: if the file of one process is damaged, `_together` makes all try the next step.
        for step in self._steps():
            try:
                result = _together(partial(snapshot, step))
            except serialization.DamageError as error:
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
        """Return only the parameters of the last snapshot.

        Args:
            like: Parameters with the expected shapes, dtypes and shardings.
            best: Whether to return the parameters with the smallest validation loss instead of the last ones.

        Raises:
            FileNotFoundError: The folder has no snapshot.
            OSError: A file cannot be read.
            ValueError: The snapshot belongs to another model, has no best parameters, or is damaged.
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
        except serialization.DamageError as error:
            remedy = f"fit goes on from step {earlier[0]}, as restore does without the folder {last}" if earlier else "train anew"
            raise ValueError(f"{self._damage(last, error)}: {remedy}") from error

    def _check_best(self, contents: Mapping[str, str], history: list[dict[str, Any]]) -> None:
        if not contents:
            raise ValueError(
                f"the checkpoint in {self.folder} has no best parameters: train with validation data, or give best=False"
            )
        if not history:
            raise ValueError(f"the run in {self.folder} was stopped before its first record: go on with it, or give best=False")

    def _damage(self, step: int, error: serialization.DamageError) -> str:
        return f"the checkpoint of step {step} in {self.folder} is damaged ({error})"

    def _read(self, step: int) -> Any:
        folder = self.folder / str(step)
        if (folder / "_CHECKPOINT_METADATA").exists() or (folder / "about").is_dir():
            with needed_by("a checkpoint of an earlier version", "jlstm[train]"):  # orbax takes a second to import
                from jlstm.train import orbax_checkpoints
            return orbax_checkpoints.read(folder)
        return stored.read(folder)

    def _steps(self) -> list[int]:
        """Return the steps that have a checkpoint, latest first."""
        try:
            # Files too: a file in place of a checkpoint's folder is a damaged checkpoint.
            names = [path.name for path in self.folder.iterdir()] if self.folder.exists() else []
        except OSError as error:
            raise serialization.refusal(
                error, f"checkpoints in {self.folder} cannot be read", "name a folder that can be"
            ) from error
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def _compare(self, contents: Mapping[str, str], expected: Mapping[str, str]) -> None:
        for name in [*expected, *contents]:
            if contents.get(name) != expected.get(name):
                raise ValueError(
                    f"the checkpoint in {self.folder} is of another run: its {name} is {contents.get(name, 'missing')}, "
                    f"expected {expected.get(name, 'nothing')}: give that run's model, optimizer, data and key, or another folder"
                )


def restore(folder: str | os.PathLike[str], like: Params, *, best: bool = False) -> Params:
    """Return the last or the best parameters from the checkpoints of a run.

    Only the last checkpoint is read. If it is damaged, `restore` raises, whereas `fit` resumes from the checkpoint before it.

    Args:
        folder: The argument `checkpoints` of `fit`.
        like: Parameters of the same model, or `jax.eval_shape` of its `init`.
        best: Whether to return the parameters with the smallest validation loss instead of the last ones.

    Returns:
        The parameters, with the shapes, dtypes and shardings of `like`.

    Raises:
        FileNotFoundError: The folder has no checkpoint.
        OSError: A file cannot be read.
        ValueError: The checkpoint belongs to another model, is damaged, or has no best parameters. The latter are missing if the
            run had no validation data or ended before its first record.
    """
    check_tree("like", like)
    checks.flag("best", best)
    if not checks.path("folder", folder).is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(folder)}: train with checkpoints={os.fspath(folder)!r} first")
    return Checkpoints(folder).restore_params(like, best=best)


def _items(snapshot: Snapshot) -> dict[str, PyTree]:
    # The parameters are an item of their own, so that `restore_params` can read them without knowing the optimizer.
    training = {"state": stored.FieldsInFiles(*snapshot.state._replace(params=())), "key": snapshot.key}
    items = {"params": snapshot.state.params, "training": training}
    return items if snapshot.best is None else items | {"best": snapshot.best}


def _remove(path: Path) -> None:
    """Remove a folder or file atomically: rename it first, so that an interrupted removal leaves no incomplete checkpoint."""
    if not path.name.endswith(_UNFINISHED):
        path = path.replace(path.with_name(f"removed-{path.name}{_UNFINISHED[0]}"))
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _together(action: Callable[[], T]) -> T:
    """Run `action` in every process; if it fails in one process, raise in all of them.

    Without this, the other processes would wait forever for the one that failed.

    Raises:
        DamageError: A checkpoint is damaged, in this process or in another one.
        OSError: `action` failed with another error in another process.
    """
    error: Exception | None = None
    try:
        result = action()
    except (OSError, ValueError) as caught:
        error = caught
    # A damaged checkpoint (1) makes `restore` try an earlier one; any other error (2) ends the run, so it takes precedence.
    severity = 0 if error is None else 1 if isinstance(error, serialization.DamageError) else 2
    worst = severity
    if jax.process_count() > 1:
        worst = int(multihost_utils.process_allgather(np.int32(severity)).max())
    if error is not None and severity == worst:
        raise error
    if worst == 1:
        raise serialization.DamageError("so another process says")
    if worst == 2:
        raise OSError("another process failed: see what it says")
    return result
