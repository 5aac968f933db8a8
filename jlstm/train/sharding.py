"""Where arrays lie: batches split over a mesh's devices, parameters on each of them or split by units."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jlstm.cell import PyTree

BATCH, UNITS = "batch", "units"


def mesh(units: int = 1) -> Mesh:
    """Arrange all devices, those of other processes too, as a mesh with the axes `batch` and `units`.

    Args:
        units: number of devices among which the columns of every kernel are split; the others split the batch.

    Raises:
        ValueError: `units` does not divide the number of devices.

    Examples:
        >>> from jlstm.train import mesh
        >>> mesh(units=1).axis_names
        ('batch', 'units')
    """
    devices = jax.devices()
    if units < 1 or len(devices) % units:
        raise ValueError(f"units must divide the number of devices, {len(devices)}, got {units}")
    return Mesh(np.array(devices).reshape(-1, units), (BATCH, UNITS))


def constrain(mesh: Mesh | None, state: Any) -> Any:
    """Pin a state's arrays to where `place` puts them, so that every step finds them where the one before did."""
    return state if mesh is None else jax.lax.with_sharding_constraint(state, shardings(mesh, state))


def place(mesh: Mesh | None, state: Any) -> Any:
    """Copy a state's arrays to where they belong."""
    if mesh is None:
        return jax.tree.map(jnp.array, state)
    return jax.tree.map(_put, state, shardings(mesh, state))


def split(mesh: Mesh | None, carry: PyTree) -> PyTree:
    """Split a carry by batch."""
    if mesh is None:
        return jax.tree.map(jnp.array, carry)
    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(mesh, PartitionSpec(BATCH))), carry)


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def shardings(mesh: Mesh, state: Any) -> Any:
    """The carry split by batch; matrices whose columns the units axis divides split by columns; the rest on all devices."""
    rows = jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec(BATCH)), state.carry)
    return jax.tree.map(lambda leaf: NamedSharding(mesh, _columns(mesh, leaf)), state)._replace(carry=rows)


def _columns(mesh: Mesh, leaf: Any) -> PartitionSpec:
    split = mesh.shape[UNITS] > 1 and leaf.ndim > 1 and leaf.shape[-1] % mesh.shape[UNITS] == 0
    return PartitionSpec(*[None] * (leaf.ndim - 1), UNITS) if split else PartitionSpec()


def feed(mesh: Mesh | None, batch: PyTree, axis: int = 0) -> PyTree:
    """Hand this process's share of a batch to its devices; `axis` is that of the examples."""
    if mesh is None:
        return batch
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, BATCH))
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch)
