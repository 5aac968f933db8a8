"""Digests in the metadata of files of arrays. They reveal changes to a file after it was saved.

The entry `sha256.NAME` is the digest of one array: of its dtype, its shape and its bytes. The entry `sha256` is the digest of all
other entries, in alphabetic order. The digests of single arrays are there to tell which array has changed.
"""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

_WHOLE, _ARRAY = "sha256", "sha256."


def signed(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of the metadata with the digests of all arrays and of all entries added. The arrays must be C-contiguous."""
    entries = {**metadata, **{_ARRAY + name: _of_array(array) for name, array in arrays.items()}}
    return {**entries, _WHOLE: _of_entries(entries)}


def damage(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str | None:
    """Return what has changed since `signed` computed the digests, as a clause for an error message.

    Return None if nothing has changed, or if there are no digests, as in files of older versions.
    """
    saved = {name.removeprefix(_ARRAY): digest for name, digest in metadata.items() if name.startswith(_ARRAY)}
    if _WHOLE not in metadata and not saved:
        return None
    if metadata.get(_WHOLE) != _of_entries({name: value for name, value in metadata.items() if name != _WHOLE}):
        return "its description is not the one that was saved"
    if unexpected := sorted(saved.keys() ^ arrays.keys()):
        return f"its arrays are not those that were saved, as {unexpected[0][:60]!r}"
    changed = sorted(name for name, array in arrays.items() if _of_array(array) != saved[name])
    return f"its {changed[0][:60]!r} is not the array that was saved" if changed else None


def _of_entries(entries: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _of_array(array: np.ndarray) -> str:
    # With dtype and shape, since the same bytes could be read as another array.
    digest = hashlib.sha256(f"{array.dtype.name} {list(array.shape)} ".encode())
    digest.update(array.reshape(-1).view(np.uint8).data)  # as bytes, since NumPy has no buffers of bfloat16
    return digest.hexdigest()
