"""Convert between lists of batches, whose widths may differ, and flat arrays that fit into one file."""

from collections.abc import Sequence

import numpy as np

from benchmarks.systems.problem import Arrays


def pack(batches: Sequence[Arrays]) -> Arrays:
    """Concatenate the values of each name, and store the shape of each batch under `name.shapes`."""
    packed = {}
    for name in batches[0]:
        packed[name] = np.concatenate([batch[name].ravel() for batch in batches])
        packed[f"{name}.shapes"] = np.array([batch[name].shape for batch in batches])
    return packed


def unpack(packed: Arrays) -> list[Arrays]:
    """Return the batches of `pack`, as views."""
    columns = {}
    for name in names(packed):
        shapes = packed[f"{name}.shapes"]
        parts = np.split(packed[name], np.cumsum(shapes.prod(1))[:-1])
        columns[name] = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def joined(packed: Arrays) -> Arrays | None:
    """Return all batches as one, a view; None if their widths differ."""
    widths = {name: {tuple(shape) for shape in packed[f"{name}.shapes"][:, 1:]} for name in names(packed)}
    if any(len(shapes) > 1 for shapes in widths.values()):
        return None
    return {name: packed[name].reshape(-1, *next(iter(shapes))) for name, shapes in widths.items()}


def input_shape(packed: Arrays) -> list[int | None]:
    """Return the shape of one example of the first array, with None for axes that differ between batches."""
    axes = packed[f"{names(packed)[0]}.shapes"][:, 1:].T
    return [int(axis[0]) if (axis == axis[0]).all() else None for axis in axes]


def names(packed: Arrays) -> list[str]:
    """Return the names of the arrays in a batch."""
    return [name for name in packed if not name.endswith(".shapes")]
