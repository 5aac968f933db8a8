"""Your own and random inputs for a model's recurrent layers."""

import os
import zipfile
from collections.abc import Sequence

import numpy as np

BATCH, TIME = 2, 24


def read_inputs(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the only array (batch, time, features) of an `.npz` file, as float64.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no `.npz` file, does not hold exactly one array, or the array has another rank, another dtype or
            numbers that are not finite.
    """
    name = os.fspath(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {name}: check its name") from error
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(f"{name} is not an .npz file of numbers ({reason}): write it with numpy.savez(file, xs=xs)") from error
    if len(arrays) != 1:
        raise ValueError(f"{name} has {len(arrays)} arrays, expected one: numpy.savez(file, xs=xs)")
    (xs,) = arrays.values()
    if xs.ndim != 3 or not np.issubdtype(xs.dtype, np.floating) or 0 in xs.shape:
        raise ValueError(
            f"{name} has {xs.dtype} of shape {xs.shape}, expected floats (batch, time, features): cast or reshape it"
        )
    if not np.isfinite(xs).all():
        raise ValueError(f"{name} has numbers that are not finite: leave these out")
    return xs.astype(np.float64)


def random_inputs(features: int, seed: int, lengths: Sequence[int] | None = None, spatial: tuple[int, ...] = ()) -> np.ndarray:
    """Return random inputs (batch, time, *spatial, features); with lengths, one sequence per length."""
    batch, time = (BATCH, TIME) if lengths is None else (len(lengths), max(lengths))
    return np.random.default_rng(seed).standard_normal((batch, time, *spatial, features))


def read_lengths(text: str) -> tuple[int, ...]:
    """Parse the lengths of the command line, such as "24,17".

    Raises:
        ValueError: they are not positive whole numbers.
    """
    parts = text.split(",")
    # int() alone would accept signs and underscores.
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"--lengths must be whole numbers of at least 1 with commas between, such as 24,17, got {text[:80]!r}")
    return tuple(int(part) for part in parts)


def mask_of_lengths(lengths: Sequence[int] | None, xs: np.ndarray) -> np.ndarray | None:
    """Return the mask (batch, time) for lengths; None without lengths.

    Raises:
        ValueError: the number of lengths is not the number of sequences, or a length exceeds the inputs.
    """
    if lengths is None:
        return None
    batch, time = xs.shape[:2]
    if len(lengths) != batch or max(lengths) > time:
        raise ValueError(f"--lengths must be {batch} numbers of at most {time} for inputs of shape {xs.shape}, got {lengths}")
    return np.arange(time) < np.array(lengths)[:, None]


def fitting(xs: np.ndarray, name: str, features: int) -> np.ndarray:
    """Return `xs` if the layer accepts it.

    Raises:
        ValueError: `xs` has another number of features.
    """
    if xs.shape[2] != features:
        raise ValueError(f"inputs have {xs.shape[2]} features, but {name} takes {features}: choose layers with --case")
    return xs
