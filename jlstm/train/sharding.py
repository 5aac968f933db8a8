"""Where arrays lie: batches split over a mesh's devices, parameters on each of them or split by units."""

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jlstm import checks
from jlstm.cell import PyTree

BATCH, UNITS = "batch", "units"


def mesh(units: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arrange devices as a mesh with the axes `batch` and `units`.

    Args:
        units: number of devices among which the columns of every kernel are split; the others split the batch.
        devices: which; None takes all, those of other processes too.

    Raises:
        ValueError: `units` does not divide the number of devices, or leaves a process with a broken part of the batch, or
            processes have different numbers of these devices, or this one has none.

    Examples:
        >>> from jlstm.train import mesh
        >>> mesh(units=1).axis_names
        ('batch', 'units')
    """
    checks.positive("units", units)
    devices = jax.devices() if devices is None else checks.several("devices", devices, "jax.devices()")
    if wrong := [device for device in devices if not hasattr(device, "process_index")]:
        raise TypeError(f"devices must be a list such as jax.devices(), got {checks.brief(wrong[0])} in it")
    chosen = sorted(devices, key=lambda device: (device.process_index, device.id))
    if not chosen or len(chosen) % units:
        raise ValueError(f"units must divide the number of devices, {len(chosen)}, got {units}")
    counts = Counter(device.process_index for device in chosen)
    local = counts[jax.process_index()]
    if not local or set(counts.values()) != {local}:
        raise ValueError(f"every process must have equally many of the devices, got {dict(counts)} (process: number)")
    if local % units and units % local:
        raise ValueError(f"units must divide the {local} devices of a process, or be a multiple of them, got {units}")
    return Mesh(np.array(chosen).reshape(-1, units), (BATCH, UNITS))


def mesh_of(tree: PyTree) -> Mesh | None:
    """The mesh of `mesh` on which arrays lie, if they lie on one."""
    homes = [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(tree)]
    meshes = [home.mesh for home in homes if isinstance(home, NamedSharding) and home.mesh.axis_names == (BATCH, UNITS)]
    return meshes[0] if meshes and isinstance(meshes[0], Mesh) else None


def part(mesh: Mesh | None, size: int) -> tuple[int, int]:
    """Return `(i, n)`: this process feeds the i-th of n equal shares of each batch of `size` examples.

    Raises:
        ValueError: the batch cannot be divided among the devices.
    """
    if mesh is None:
        return 0, 1
    rows = mesh.shape[BATCH]
    if size % rows:
        raise ValueError(f"a batch of {size} cannot be divided among {rows} devices: choose a size that is a multiple of {rows}")
    owners = [{device.process_index for device in row} for row in mesh.devices]
    mine = [row for row, processes in enumerate(owners) if jax.process_index() in processes]
    return mine[0] // len(mine), rows // len(mine)


def constrain(mesh: Mesh | None, state: Any) -> Any:
    """Pin a state's arrays to where `place` puts them, so that every step finds them where the one before did."""
    return state if mesh is None else jax.lax.with_sharding_constraint(state, shardings(mesh, state))


def place(mesh: Mesh | None, state: Any) -> Any:
    """Copy a state's arrays to where they belong.

    Raises:
        ValueError: there are several processes and no mesh, or their arrays differ.
    """
    if mesh is None:
        if jax.process_count() > 1:
            raise ValueError("several processes train one model on a mesh of all their devices: give mesh=jlstm.train.mesh()")
        return jax.tree.map(jnp.array, state)
    _check_equal(mesh, state)
    return jax.tree.map(_put, state, shardings(mesh, state))


def replicate(mesh: Mesh | None, key: jax.Array) -> jax.Array:
    """Copy a key to all devices.

    Raises:
        ValueError: processes have different keys.
    """
    if mesh is None:
        return key
    _check_equal(mesh, key)
    return _put(key, NamedSharding(mesh, PartitionSpec()))


def spread(mesh: Mesh | None, params: PyTree) -> PyTree:
    """Copy parameters to where training has them, if they lie elsewhere."""
    if mesh is None or mesh_of(params) == mesh:
        return params
    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(mesh, _columns(mesh, leaf))), params)


def split(mesh: Mesh | None, carry: PyTree) -> PyTree:
    """Split a carry by batch."""
    if mesh is None:
        return jax.tree.map(jnp.array, carry)
    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(mesh, _rows(mesh, leaf))), carry)


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jnp.copy(jax.device_put(leaf, sharding))
    value = _numbers(leaf)
    array = jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if is_key(leaf) else array


def is_key(leaf: Any) -> bool:
    """Whether an array is one of random keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def _check_equal(mesh: Mesh, tree: Any) -> None:
    """Processes that begin with different arrays would go on with different models, and nobody would notice."""
    if not mesh.is_multi_process:
        return
    digest = 0
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            digest = zlib.crc32(_numbers(leaf).tobytes(), digest)
    if len(set(multihost_utils.process_allgather(np.uint32(digest)).tolist())) > 1:
        raise ValueError("processes begin with different parameters or keys: make them from the same seed in each")


def shardings(mesh: Mesh, state: Any) -> Any:
    """The carry split by batch; matrices whose columns the units axis divides split by columns; the rest on all devices."""
    carry = jax.tree.map(lambda leaf: NamedSharding(mesh, _rows(mesh, leaf)), state.carry)
    return jax.tree.map(lambda leaf: NamedSharding(mesh, _columns(mesh, leaf)), state)._replace(carry=carry)


def _rows(mesh: Mesh, leaf: Any) -> PartitionSpec:
    return PartitionSpec(BATCH) if leaf.ndim and leaf.shape[0] % mesh.shape[BATCH] == 0 else PartitionSpec()


def _columns(mesh: Mesh, leaf: Any) -> PartitionSpec:
    divided = mesh.shape[UNITS] > 1 and leaf.ndim > 1 and leaf.shape[-1] % mesh.shape[UNITS] == 0
    return PartitionSpec(*[None] * (leaf.ndim - 1), UNITS) if divided else PartitionSpec()


def feed(mesh: Mesh | None, batch: PyTree, axis: int = 0) -> PyTree:
    """Hand this process's share of a batch to its devices; `axis` is that of the examples."""
    if mesh is None:
        return batch
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, BATCH))
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch)
