"""Digests that files of arrays carry in their metadata, so that a change after they were saved is noticed.

The entry `sha256.NAME` is the digest of one array: of its dtype, its shape and its bytes. The entry `sha256` is the digest of all
other entries, in alphabetic order. `sha256` alone would do to notice a change; the digests of arrays tell where it is.
"""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

_WHOLE, _ARRAY = "sha256", "sha256."


def signed(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata, together with the digests of the arrays, which must be C-contiguous, and of all entries."""
    entries = {**metadata, **{_ARRAY + name: _of_array(array) for name, array in arrays.items()}}
    return {**entries, _WHOLE: _of_entries(entries)}


def damage(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str | None:
    """Say what has changed since `signed` computed the digests. Return None if nothing has, or if there are no digests.

    Files of older versions have no digests.
    """
    saved = {name.removeprefix(_ARRAY): digest for name, digest in metadata.items() if name.startswith(_ARRAY)}
    if _WHOLE not in metadata and not saved:
        return None
    if metadata.get(_WHOLE) != _of_entries({name: value for name, value in metadata.items() if name != _WHOLE}):
        return "its description is not the one that was saved"
    if odd := sorted(saved.keys() ^ arrays.keys()):
        return f"its arrays are not those that were saved, as {odd[0][:60]!r}"
    changed = sorted(name for name, array in arrays.items() if _of_array(array) != saved[name])
    return f"its {changed[0][:60]!r} is not the array that was saved" if changed else None


def _of_entries(entries: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _of_array(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.dtype.name} {list(array.shape)} ".encode())
    digest.update(array.reshape(-1).view(np.uint8).data)  # NumPy hands out no buffer of bfloat16
    return digest.hexdigest()
