"""File format of a checkpoint: a folder with one safetensors file per process, each with digests of its content.

The metadata of `process_0.safetensors` describes the run. An array that is split over devices is stored in pieces, whose names
contain their half-open ranges: `params.kernel@0:3,4:8` holds rows 0 to 2 and columns 4 to 7.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array

from jlstm._src import checks, serialization
from jlstm.cell import PyTree
from jlstm.train.sharding import is_key


class FieldsInFiles(NamedTuple):
    """The fields of a `jlstm.train.step.State` by their names in files. These must not change, though `State` has `opt_state`."""

    params: PyTree
    moments: PyTree
    carry: PyTree
    step: Array
    finite: Array
    sums: PyTree


class Stored(NamedTuple):
    """The content of a checkpoint.

    Attributes:
        contents: Descriptions of the run, and the dtype and shape of every array, by name.
        history: Records as dicts.
        arrays: Arrays and pieces of arrays by name.
    """

    contents: dict[str, str]
    history: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]

    def restored(self, like: PyTree) -> PyTree:
        """Return the arrays of the pytree `like`, with its shardings.

        Raises:
            DamageError: Some numbers of an array are missing.
        """
        leaves = [self._restored(name, leaf) for name, leaf in serialization.by_name(like).items()]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _restored(self, name: str, like: Any) -> Array:
        data = jax.eval_shape(jax.random.key_data, like) if is_key(like) else like
        checks.available(name, data.dtype)
        sharding = getattr(_data(like), "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
        values = self.arrays[name] if name in self.arrays else self._assemble(name, data)
        array = jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like)) if is_key(like) else array

    def _assemble(self, name: str, like: Any) -> np.ndarray:
        # The pieces may come from another number of devices than there are now, so the whole array is put together first.
        values, missing = np.empty(like.shape, like.dtype), int(np.prod(like.shape))
        for piece, array in self.arrays.items():
            owner, _, place = piece.rpartition("@")
            if owner == name:
                values[tuple(slice(*map(int, axis.split(":"))) for axis in place.split(","))] = array
                missing -= array.size
        if missing:
            raise serialization.DamageError(f"{missing} numbers of {name} are missing")
        return values


def write(
    folder: Path, step: int, contents: Mapping[str, str], history: list[dict[str, Any]], items: Mapping[str, PyTree]
) -> None:
    """Write the file of this process. Every process of a run must call this."""
    about = {"contents": contents, "history": history, "processes": jax.process_count()}
    metadata = {"step": str(step)}
    if jax.process_index() == 0:  # `read` takes the description from this file
        metadata["checkpoint"] = json.dumps(about)
    pieces: dict[str, np.ndarray] = {}
    for name, leaf in serialization.by_name(dict(items)).items():
        pieces |= _pieces(name, _data(leaf))
    serialization.write(_file(folder, jax.process_index()), serialization.pack(pieces, metadata))


def read(folder: Path) -> Stored:
    """Read the files of all processes.

    Raises:
        DamageError: A file is missing or damaged.
        OSError: This user may not read a file.
    """
    arrays, metadata = _read(_file(folder, 0))
    try:
        about = json.loads(metadata["checkpoint"])
        contents, history, processes = about["contents"], about["history"], about["processes"]
    except (KeyError, TypeError, ValueError) as error:  # the digests match, so another program wrote the file
        raise serialization.DamageError("process_0.safetensors is not of a checkpoint") from error
    # As many files as there were processes then, whatever their number is now.
    for process in range(1, processes):
        arrays |= _read(_file(folder, process))[0]
    return Stored(contents, history, arrays)


def contents(items: Mapping[str, PyTree]) -> dict[str, str]:
    """Return the dtype and shape of every array by name."""
    # One call per item keeps the order of `items`; as a pytree, a dict would be sorted by its keys.
    arrays = [serialization.by_name({item: tree}) for item, tree in items.items()]
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for leaves in arrays for name, leaf in leaves.items()}


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    if path.is_fifo():  # reading it would wait forever
        raise serialization.DamageError(f"{path.name} is a pipe")
    try:
        arrays, metadata = serialization.unpack(path.read_bytes())
    except PermissionError as error:
        raise serialization.refusal(error, f"{path} cannot be read", "allow this user to read it") from error
    except FileNotFoundError as error:
        raise serialization.DamageError(f"{path.name} is missing") from error
    except OSError as error:
        raise serialization.DamageError(f"{path.name} cannot be read, {error.strerror}") from error
    except serialization.DamageError as error:
        raise serialization.DamageError(f"{path.name}: {error}") from error
    except ValueError as error:
        raise serialization.DamageError(f"{path.name} is no safetensors file") from error
    if "sha256" not in metadata:
        raise serialization.DamageError(f"{path.name} has lost its digests")
    # The folder has the number of the step as its name. Files of earlier versions do not name the step.
    if (step := metadata.get("step", path.parent.name)) != path.parent.name:
        raise serialization.DamageError(f"{path.name} is of step {step[:20]}")
    return arrays, metadata


def _file(folder: Path, process: int) -> Path:
    return folder / f"process_{process}.safetensors"


def _pieces(name: str, leaf: Any) -> dict[str, np.ndarray]:
    """Return the pieces of an array that this process writes. Each piece is written by exactly one process."""
    if not isinstance(leaf, jax.Array):
        return {name: np.asarray(leaf)} if jax.process_index() == 0 else {}
    pieces = {}
    for shard in leaf.addressable_shards:
        if shard.replica_id == 0:
            unsplit = shard.data.shape == leaf.shape
            # Start and stop along each axis, such as "0:4,8:16". The slice of an axis that is not split has neither.
            place = ",".join(
                f"{part.start or 0}:{size if part.stop is None else part.stop}"
                for part, size in zip(shard.index, leaf.shape, strict=True)
            )
            pieces[name if unsplit else f"{name}@{place}"] = np.asarray(shard.data)
    return pieces


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if is_key(leaf) and isinstance(leaf, jax.Array) else leaf
