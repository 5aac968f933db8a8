"""Placement of arrays on a mesh: batches are split over devices, parameters are replicated or split by units."""

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jlstm._src import checks
from jlstm.cell import PyTree

BATCH, UNITS = "batch", "units"


def mesh(units: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return a mesh of devices with the axes `batch` and `units`.

    Args:
        units: Number of devices over which to split the columns of every kernel. The batch is split over number of devices /
            `units` groups.
        devices: Devices to use. None means all, including those of other processes.

    Returns:
        The mesh, for the argument `mesh` of `fit` and `evaluate`.

    Raises:
        TypeError: `devices` is not a list of devices.
        ValueError: `units` does not divide the number of devices, processes have different numbers of these devices, this process
            has none, or `units` and the number of devices of a process do not divide each other.

    Examples:
        >>> from jlstm.train import mesh
        >>> mesh(units=1).axis_names
        ('batch', 'units')
    """
    checks.positive("units", units)
    devices = jax.devices() if devices is None else checks.several("devices", devices, "jax.devices()")
    if invalid := [device for device in devices if not hasattr(device, "process_index")]:
        raise TypeError(f"devices must be a list such as jax.devices(), got {checks.brief(invalid[0])} in it")
    # The devices of a process are neighbors in the mesh. Its share of a batch is then one range of rows, as `part` needs.
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    if not ordered or len(ordered) % units:
        raise ValueError(f"units must divide the number of devices, {len(ordered)}, got {units}")
    counts = Counter(device.process_index for device in ordered)
    local = counts[jax.process_index()]
    if not local or set(counts.values()) != {local}:
        raise ValueError(f"every process must have equally many of the devices, got {dict(counts)} (process: number)")
    if local % units and units % local:
        raise ValueError(f"units must divide the {local} devices of a process, or be a multiple of them, got {units}")
    return Mesh(np.array(ordered).reshape(-1, units), (BATCH, UNITS))


def mesh_of(tree: PyTree) -> Mesh | None:
    """Return the mesh that holds the first sharded array, if `mesh` made it, else None."""
    placements = [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(tree)]
    meshes = [place.mesh for place in placements if isinstance(place, NamedSharding) and place.mesh.axis_names == (BATCH, UNITS)]
    return meshes[0] if meshes and isinstance(meshes[0], Mesh) else None


def part(mesh: Mesh | None, size: int) -> tuple[int, int]:
    """Return which share of each batch this process loads.

    Args:
        mesh: The mesh, or None for a single device.
        size: Number of examples per batch.

    Returns:
        A pair `(i, n)`: this process loads the i-th of n equal shares, counted from 0.

    Raises:
        ValueError: The batch cannot be divided evenly over the devices.
    """
    if mesh is None:
        return 0, 1
    rows = mesh.shape[BATCH]
    if size % rows:
        raise ValueError(f"a batch of {size} cannot be divided among {rows} devices: choose a size that is a multiple of {rows}")
    # If `units` is larger than the number of devices of a process, several processes own the same row and load the same share.
    owners = [{device.process_index for device in row} for row in mesh.devices]
    local_rows = [row for row, processes in enumerate(owners) if jax.process_index() in processes]
    return local_rows[0] // len(local_rows), rows // len(local_rows)


def constrain(mesh: Mesh | None, state: Any) -> Any:
    """Return a traced state constrained to the shardings of `place`, so that every step gets the same input shardings."""
    return state if mesh is None else jax.lax.with_sharding_constraint(state, shardings(mesh, state))


def place(mesh: Mesh | None, state: Any) -> Any:
    """Return copies of the arrays of a state on their devices.

    Raises:
        ValueError: There are several processes and no mesh, or the arrays differ between processes.
    """
    if mesh is None:
        if jax.process_count() > 1:
            raise ValueError("several processes train one model on a mesh of all their devices: give mesh=jlstm.train.mesh()")
        return jax.tree.map(jnp.array, state)
    _check_equal(mesh, state)
    return jax.tree.map(_put, state, shardings(mesh, state))


def replicate(mesh: Mesh | None, key: jax.Array) -> jax.Array:
    """Return a copy of a key on all devices.

    Raises:
        ValueError: The key differs between processes.
    """
    if mesh is None:
        return key
    _check_equal(mesh, key)
    return _put(key, NamedSharding(mesh, PartitionSpec()))


def spread(mesh: Mesh | None, params: PyTree) -> PyTree:
    """Return parameters as training places them: copies, unless they are on the mesh already."""
    if mesh is None or mesh_of(params) == mesh:
        return params
    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(mesh, _columns(mesh, leaf))), params)


def split(mesh: Mesh | None, carry: PyTree) -> PyTree:
    """Return copies of the arrays of a carry, split along the batch axis."""
    if mesh is None:
        return jax.tree.map(jnp.array, carry)
    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(mesh, _rows(mesh, leaf))), carry)


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        # `device_put` may return the same buffers. The copy keeps training from donating those of the caller.
        return jnp.copy(jax.device_put(leaf, sharding))
    # Every process has all numbers, and copies the parts that its devices hold.
    value = _numbers(leaf)
    array = jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if is_key(leaf) else array


def is_key(leaf: Any) -> bool:
    """Return whether an array holds random keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def _check_equal(mesh: Mesh, tree: Any) -> None:
    """Check that all processes have equal arrays. With different ones each process would silently train another model."""
    if not mesh.is_multi_process:
        return
    digest = 0
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            digest = zlib.crc32(_numbers(leaf).tobytes(), digest)
    if len(set(multihost_utils.process_allgather(np.uint32(digest)).tolist())) > 1:
        raise ValueError("processes begin with different parameters or keys: make them from the same seed in each")


def shardings(mesh: Mesh, state: Any) -> Any:
    """Return a sharding for each array of a state.

    The carry is split by batch. Matrices whose columns the units axis divides are split by columns. The rest is replicated.
    """
    carry = jax.tree.map(lambda leaf: NamedSharding(mesh, _rows(mesh, leaf)), state.carry)
    return jax.tree.map(lambda leaf: NamedSharding(mesh, _columns(mesh, leaf)), state)._replace(carry=carry)


def _rows(mesh: Mesh, leaf: Any) -> PartitionSpec:
    # Whole on every device if its rows cannot be divided evenly, as is a scalar.
    return PartitionSpec(BATCH) if leaf.ndim and leaf.shape[0] % mesh.shape[BATCH] == 0 else PartitionSpec()


def _columns(mesh: Mesh, leaf: Any) -> PartitionSpec:
    divided = mesh.shape[UNITS] > 1 and leaf.ndim > 1 and leaf.shape[-1] % mesh.shape[UNITS] == 0
    return PartitionSpec(*[None] * (leaf.ndim - 1), UNITS) if divided else PartitionSpec()


def feed(mesh: Mesh | None, batch: PyTree, axis: int = 0) -> PyTree:
    """Return copies of this process's share of a batch on its devices. Examples are along `axis`."""
    if mesh is None:
        return batch
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, BATCH))
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch)
