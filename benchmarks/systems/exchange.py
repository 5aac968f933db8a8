"""Batches of any widths in one file of plain arrays."""

from collections.abc import Sequence

import numpy as np

from benchmarks.systems.problem import Arrays


def pack(batches: Sequence[Arrays]) -> Arrays:
    """All values of each name in one row, and under `name.shapes` the shape that they have in each batch."""
    packed = {}
    for name in batches[0]:
        packed[name] = np.concatenate([batch[name].ravel() for batch in batches])
        packed[f"{name}.shapes"] = np.array([batch[name].shape for batch in batches])
    return packed


def unpack(packed: Arrays) -> list[Arrays]:
    """The batches again, as views."""
    columns = {}
    for name in names(packed):
        shapes = packed[f"{name}.shapes"]
        parts = np.split(packed[name], np.cumsum(shapes.prod(1))[:-1])
        columns[name] = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def joined(packed: Arrays) -> Arrays | None:
    """The batches as one, a view; None if they are not of one width."""
    widths = {name: {tuple(shape) for shape in packed[f"{name}.shapes"][:, 1:]} for name in names(packed)}
    if any(len(shapes) > 1 for shapes in widths.values()):
        return None
    return {name: packed[name].reshape(-1, *next(iter(shapes))) for name, shapes in widths.items()}


def input_shape(packed: Arrays) -> list[int | None]:
    """The shape of an example of what comes first, None for an axis that is not the same in all batches."""
    axes = packed[f"{names(packed)[0]}.shapes"][:, 1:].T
    return [int(axis[0]) if (axis == axis[0]).all() else None for axis in axes]


def names(packed: Arrays) -> list[str]:
    """The names that the batches have."""
    return [name for name in packed if not name.endswith(".shapes")]
