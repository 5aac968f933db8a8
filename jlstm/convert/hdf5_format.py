"""Parser for HDF5 files as Keras writes them. It does not use the HDF5 library, which loops forever on some damaged files.

Keras writes the first version of the format: symbol tables, version 1 object headers and contiguous datasets. The parser visits
every block once. It checks that each block lies within the file and that all blocks together are no longer than the file. So
time and memory are proportional to the file's size. It does not follow links, nor read compressed or chunked datasets.

Reference: The HDF Group, "HDF5 file format specification", version 3.0, sections II to IV,
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html.
"""

from collections.abc import Iterator
from struct import unpack_from
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jlstm.convert.files import RefusalError

Words = str | tuple[str, ...]

_MAX_NAME_LENGTH = 4096  # of an object's name with all groups around it
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Types of header messages (section IV.A.2).
_DATASPACE, _DATATYPE, _EXTERNAL, _LAYOUT, _ATTRIBUTE, _CONTINUED, _TABLE = 0x01, 0x03, 0x07, 0x08, 0x0C, 0x10, 0x11
_LATER_GROUP = {0x02, 0x06}  # messages of groups without a symbol table, which the library writes for links to other files
_FIXED, _VARIABLE = 3, 9  # datatype classes: strings of fixed length, and data of variable length
# The properties of IEEE floats in a datatype message, bytes 8 to 19: bit offset, precision, exponent position and size, mantissa
# position and size, and exponent bias.
_IEEE = {
    2: (np.float16, bytes((0, 0, 16, 0, 10, 5, 0, 10, 15, 0, 0, 0))),
    4: (np.float32, bytes((0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0))),
    8: (np.float64, bytes((0, 0, 64, 0, 52, 11, 0, 52, 255, 3, 0, 0))),
}


class Dataset(NamedTuple):
    """The place of an array in the file.

    Attributes:
        shape: the declared shape.
        dtype: the dtype, or None if it is not one of IEEE floats or bfloat16.
        start: the position of the data in the file.
        size: the number of bytes there.
        obstacle: why the data cannot be read, such as "compressed or in chunks"; "" if it can.
    """

    shape: tuple[int, ...]
    dtype: Any
    start: int
    size: int
    obstacle: str

    @property
    def nbytes(self) -> int:
        """The declared size in bytes."""
        return int(np.prod(self.shape, dtype=object)) * (self.dtype.itemsize if self.dtype else 1)


class File:
    """The groups and datasets of an HDF5 file.

    Args:
        content: the bytes of the file, or a memory map of them.

    Attributes:
        attributes: for each group, its attributes that are a string or a list of strings. The root has the name "".
        datasets: the datasets by name, such as "layers/lstm/cell/vars/0".

    Raises:
        RefusalError: the content is not an HDF5 file of the first version, or is damaged.
    """

    def __init__(self, content: Any) -> None:
        self._content, self._visited, self._bytes_left = content, set[int](), len(content)
        self._heap_objects: dict[int, dict[int, tuple[int, int]]] = {}
        self._text_bytes_left = len(content)  # a separate limit, because many attributes may refer to the same text
        self.attributes: dict[str, dict[str, Words]] = {}
        self.datasets: dict[str, Dataset] = {}
        # The superblock: versions 0 and 1 differ by 4 bytes, and 8 is the size of offsets and lengths in bytes.
        if bytes(content[:8]) != _SIGNATURE or self._unpack("<3B", 13)[:2] != (8, 8) or content[8] > 1:
            raise RefusalError("it is not of the format's first version, as Keras writes it")
        # A stack instead of recursion, because groups may be nested deeper than Python can recurse.
        pending = [("", self._unpack("<Q", 64 if content[8] == 0 else 68)[0])]
        while pending:
            name, header = pending.pop()
            if len(name) > _MAX_NAME_LENGTH:
                raise RefusalError(f"its groups are nested too deep, in names of more than {_MAX_NAME_LENGTH} letters")
            # Two names of one object (hard links) are allowed: the object is read once, under the name that comes first here.
            if header not in self._visited:
                pending += self._object(name, header)

    def array(self, dataset: Dataset) -> np.ndarray:
        """Return the array of a dataset.

        Raises:
            RefusalError: the data goes beyond the end of the file.
        """
        return np.frombuffer(self._bytes(dataset.start if dataset.nbytes else 0, dataset.nbytes), dataset.dtype).reshape(
            dataset.shape
        )

    def _bytes(self, start: int, size: int) -> bytes:
        if start + size > len(self._content):
            raise RefusalError("it ends before what it declares")
        return bytes(self._content[start : start + size])

    def _unpack(self, layout: str, start: int) -> tuple[int, ...]:
        """Unpack the numbers at a position, by a format of `struct`. Bytes after the end of the file are zero."""
        if start + 48 > len(self._content):
            return unpack_from(layout, self._bytes(start, min(48, max(0, len(self._content) - start))).ljust(48, b"\0"))
        return unpack_from(layout, self._content, start)

    def _enter(self, start: int, signature: bytes = b"") -> int:
        """Mark a block as visited, and return the position after its signature. Entering it again is refused, as in a cycle."""
        if start in self._visited or self._bytes(start, len(signature)) != signature:
            raise RefusalError("its blocks are not where it says")
        self._visited.add(start)
        return start + len(signature)

    def _spend(self, size: int) -> None:
        """Count the bytes of a block. In a valid file, blocks do not overlap, so together they are no longer than the file."""
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise RefusalError("its blocks are not where it says")

    def _object(self, name: str, header: int) -> list[tuple[str, int]]:
        """Record the group or dataset with this object header, and return the names and headers of a group's members."""
        messages: dict[int, bytes] = {}
        attributes: dict[str, Words] = {}
        for kind, data in self._messages(header):
            if kind == _ATTRIBUTE:
                attributes |= self._attribute(data)
            messages[kind] = data
        if _TABLE in messages:
            self.attributes[name] = attributes
            tree, heap = unpack_from("<2Q", _pad(messages[_TABLE]))
            return [(f"{name}/{link}".lstrip("/"), target) for link, target in self._links(tree, heap)]
        if _LATER_GROUP & messages.keys():  # if it were ignored, its arrays would seem to be missing
            raise RefusalError(f"its group {name[-80:]!r} has links to other files, or is in a later form than Keras writes")
        if _LAYOUT in messages and _DATASPACE in messages and _DATATYPE in messages:
            self.datasets[name] = _dataset(messages, attributes)
        return []

    def _messages(self, header: int) -> Iterator[tuple[int, bytes]]:
        """Yield the type and data of each message of an object header (version 1, section IV.A.1.a)."""
        version, _, count, _, size = self._unpack("<BBHII", self._enter(header))
        if version != 1:
            raise RefusalError("it has object headers of a later version than Keras writes")
        blocks = [(header + 16, size)]
        while blocks and count:
            start, size = blocks.pop(0)
            end = start + size
            while start + 8 <= end and count:
                kind, length = self._unpack("<2H", start)
                self._spend(8 + length)
                data = self._bytes(start + 8, length)
                if kind == _CONTINUED:
                    continuation, extent = unpack_from("<2Q", _pad(data))
                    blocks.append((self._enter(continuation), extent))
                yield kind, data
                start, count = start + 8 + length, count - 1

    def _links(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        """Yield the name and object header of each member of a group: a B-tree of symbol table nodes, with names in a heap."""
        names = self._unpack("<2Q Q", self._enter(heap, b"HEAP") + 4)[2]
        nodes = [tree]
        while nodes:
            node = nodes.pop()
            if self._bytes(node, 4) == b"TREE":
                start = self._enter(node, b"TREE")
                kind, _, count = self._unpack("<BBH", start)
                if kind != 0:
                    raise RefusalError("its blocks are not where it says")
                self._spend(16 * count)
                # Keys and children alternate, 8 bytes each. The first child is behind two sibling addresses and a key.
                nodes += [self._unpack("<Q", start + 28 + 16 * k)[0] for k in range(count)]
                continue
            start = self._enter(node, b"SNOD")
            for k in range(self._unpack("<BBH", start)[2]):
                self._spend(40)
                offset, header, cached = self._unpack("<2QI", start + 4 + 40 * k)
                if cached != 2:  # 2 marks a symbolic link, which has no object header
                    yield self._string(names + offset), header

    def _string(self, start: int) -> str:
        text = bytes(self._content[start : start + 1024]).split(b"\0")[0]
        return text.decode(errors="replace")

    def _attribute(self, data: bytes) -> dict[str, Words]:
        """Parse an attribute message. Return {name: value} for a string or a list of strings, and {} for any other type."""
        version, _, *sizes = unpack_from("<BB3H", _pad(data))
        parts, start = [], 8 if version < 3 else 9
        for size in sizes:
            parts.append(data[start : start + size])
            # Version 1 pads the name, the datatype and the dataspace to multiples of 8 bytes.
            start += -(-size // 8) * 8 if version == 1 else size
        name, datatype, space = parts
        if len(datatype) < 8 or len(space) < 4:
            raise RefusalError("it has an attribute that is not whole")
        shape = _shape(space)
        count = int(np.prod(shape, dtype=object))
        if len(shape) > 1 or (count and not _is_text(datatype)):
            return {}
        words = self._strings(datatype, data[start:], count)
        return {name.split(b"\0")[0].decode(errors="replace"): words if shape else words[0]}

    def _strings(self, datatype: bytes, values: bytes, count: int) -> tuple[str, ...]:
        size = unpack_from("<I", datatype, 4)[0]
        if count * max(size, 1) > len(values):
            raise RefusalError("it has an attribute that is not whole")
        words = [values[k * size : (k + 1) * size] for k in range(count)]
        if datatype[0] & 15 == _VARIABLE:
            words = [self._heap_text(word) for word in words]
        return tuple(word.rstrip(b"\0").decode(errors="replace") for word in words)

    def _heap_text(self, reference: bytes) -> bytes:
        """Return the string that a global heap reference points to: its length, a collection of the heap, and an index there."""
        length, collection, index = unpack_from("<IQI", _pad(reference))
        text = self._heap_object(collection, index)[:length]
        self._text_bytes_left -= len(text)
        if self._text_bytes_left < 0:
            raise RefusalError("its attributes refer to more text than it holds")
        return text

    def _heap_object(self, collection: int, object_index: int) -> bytes:
        """Return an object of a global heap collection. The positions of all its objects are read once."""
        if collection not in self._heap_objects:
            objects = self._heap_objects[collection] = {}
            start = self._enter(collection, b"GCOL") + 12
            end = min(collection + self._unpack("<Q", collection + 8)[0], len(self._content))
            while start + 16 <= end:
                index, _, _, size = self._unpack("<HHIQ", start)
                if index == 0:  # the free space at the end of the collection
                    break
                self._spend(16 + size)
                objects[index] = (start + 16, size)
                start += 16 + -(-size // 8) * 8
        if object_index not in self._heap_objects[collection]:
            raise RefusalError("it has no text where it says")
        return self._bytes(*self._heap_objects[collection][object_index])


def _shape(space: bytes) -> tuple[int, ...]:
    # Version 1 of a dataspace message has four reserved bytes more before the sizes than version 2.
    rank, first = _pad(space)[1], 8 if space[:1] == b"\1" else 4
    if len(space) < first + 8 * rank:
        raise RefusalError("it has a shape that is not whole")
    return unpack_from(f"<{rank}Q", space, first)


def _is_text(datatype: bytes) -> bool:
    """Return whether a datatype is a string, of fixed or variable length. Data of variable length may also be a sequence."""
    return datatype[0] & 15 == _FIXED or (datatype[0] & 15 == _VARIABLE and datatype[1] & 15 == 1)


def _dataset(messages: dict[int, bytes], attributes: dict[str, Words]) -> Dataset:
    datatype, layout = _pad(messages[_DATATYPE]), _pad(messages[_LAYOUT])
    shape = _shape(messages[_DATASPACE])
    dtype = _dtype(datatype, attributes)
    start, size = unpack_from("<2Q", layout, 2)
    if _EXTERNAL in messages:
        return Dataset(shape, dtype, 0, 0, "in another file")
    plain = layout[0] == 3 and layout[1] == 1  # version 3 of the message, and the class of contiguous storage
    return Dataset(shape, dtype, start if plain else 0, size if plain else 0, "" if plain else "compressed or in chunks")


def _dtype(datatype: bytes, attributes: dict[str, Words]) -> Any:
    """Return the NumPy dtype of a datatype message, or None if it is not a float that is read."""
    size = unpack_from("<I", datatype, 4)[0]
    # HDF5 has no bfloat16. Keras stores it as opaque data (class 5), with the dtype in an attribute.
    if datatype[0] & 15 == 5 and size == 2 and attributes.get("dtype") == "bfloat16":
        return jnp.dtype(jnp.bfloat16)
    number, properties = _IEEE.get(size, (None, b""))
    if number is None or datatype[0] & 15 != 1 or datatype[8:20] != properties:
        return None
    return np.dtype(number).newbyteorder(">" if datatype[1] & 1 else "<")


def _pad(data: bytes) -> bytes:
    """Append zeros, so that the fields of a truncated message can be unpacked. Later checks refuse their values."""
    return data.ljust(64, b"\0")
