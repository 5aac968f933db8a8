"""Checks of the index of a TensorFlow checkpoint before TensorFlow reads it.

TensorFlow aborts the process on an invalid description of an array, even if all checksums are right. So the index must be
checked first. It is a table of names and descriptions in uncompressed blocks. Each block is read once, and all blocks together
may be no longer than the file. TensorFlow itself verifies the checksums.

Each private function raises a RefusalError if the part of the file that it reads is not valid, and `check` makes a ValueError of
it.

References:
    LevelDB, "Table format", https://github.com/google/leveldb/blob/main/doc/table_format.md.
    TensorFlow, https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto.
"""

from collections.abc import Iterator
from pathlib import Path
from struct import unpack_from
from typing import Any

from jlstm.convert import files
from jlstm.convert.files import RefusalError

_MAGIC, _FOOTER = 0xDB4775248B80FB57, 48  # the last 8 bytes of a table, and the length of its footer in bytes
_MAX_AXES = 254  # of a TensorShape in TensorFlow
GRAPH, _STRING = "_CHECKPOINTABLE_OBJECT_GRAPH", 7  # the entry with the object graph, and its dtype in types.proto
# The letters of all names together, for each byte of the file. A name may share its beginning with the name before it, so a
# small file can state many long names, and TensorFlow holds each of them in full.
_LETTERS_PER_BYTE = 64


def check(path: Path) -> bool:
    """Check all entries of an index.

    Returns:
        Whether the checkpoint has an object graph.

    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: the file is not a complete index, or it describes an impossible array.
    """
    proto = files.import_package("tensorflow.core.protobuf.tensor_bundle_pb2", path)
    decode_error = files.import_package("google.protobuf.message", path).DecodeError
    graphs, shards = [], 0
    try:
        for name, value in _table(path.read_bytes()):
            description = (proto.BundleEntryProto if name else proto.BundleHeaderProto).FromString(value)
            if name:
                _check_shape(description.shape)
            else:
                shards = description.num_shards
            if name == GRAPH.encode():
                graphs.append(description)
        if len(graphs) > 1:
            raise RefusalError("it describes its objects twice")
        for entry in graphs:
            _check_graph(path, entry, shards)
    except (RefusalError, decode_error) as error:
        raise ValueError(f"{path} is not a whole index of a checkpoint ({files.reason(error)}): copy all its files") from error
    return bool(graphs)


def _check_graph(path: Path, entry: Any, shards: int) -> None:
    """Check that the object graph has its declared length, because TensorFlow allocates memory before it checks."""
    data = path.with_name(f"{path.name.removesuffix('.index')}.data-{entry.shard_id:05d}-of-{shards:05d}")
    if entry.dtype != _STRING or entry.shape.dim or not data.is_file() or min(entry.offset, entry.size) < 0:
        raise RefusalError("the description of its objects is not there")
    with data.open("rb") as file:
        file.seek(entry.offset)
        content = file.read(min(entry.size, 10))
    length, start = _varint(content, 0)
    if start + 4 + length != entry.size or entry.offset + entry.size > data.stat().st_size:  # 4 of a checksum
        raise RefusalError("the description of its objects is not whole")


def _check_shape(shape: Any) -> None:
    """Check that a TensorShapeProto has a known rank and a number of elements that fits in 63 bits."""
    size = 1
    for axis in shape.dim[: _MAX_AXES + 1]:
        size *= max(axis.size, 1)
        if axis.size < 0 or size >= 2**63:
            raise RefusalError("an array of a shape that cannot be")
    if shape.unknown_rank or len(shape.dim) > _MAX_AXES:
        raise RefusalError("an array of a shape that cannot be")


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and values of a table in LevelDB's format. The entry with the empty name is the header."""
    if len(content) < _FOOTER or unpack_from("<Q", content, len(content) - 8)[0] != _MAGIC:
        raise RefusalError("its end is missing")
    footer = content[-_FOOTER:-8]
    at = 0
    for _ in range(2):  # skip the offset and the size of the metaindex block, which TensorFlow does not use
        _, at = _varint(footer, at)
    # Handles may all refer to the same block, so the total length of the blocks that are read is bounded, too.
    bytes_left, letters = len(content), _LETTERS_PER_BYTE * len(content)
    for _, handle in _entries(_block(content, footer, at), letters):
        block = _block(content, handle, 0)
        bytes_left -= len(block)
        if bytes_left < 0:
            raise RefusalError("its blocks are not where it says")
        for name, value in _entries(block, letters):
            letters -= len(name)
            yield name, value


def _block(content: bytes, handle: bytes, at: int) -> bytes:
    """Return the block whose offset and size are encoded at position `at` of `handle`."""
    start, at = _varint(handle, at)
    size, _ = _varint(handle, at)
    if start + size + 5 > len(content) or size < 4:  # a type byte and a 4-byte checksum follow the block
        raise RefusalError("it ends before what it declares")
    if content[start + size] != 0:
        raise RefusalError("it is compressed, which TensorFlow does not write")
    return content[start : start + size]


def _entries(block: bytes, letters: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and values of a block. Its names may have at most `letters` bytes in total."""
    # A block ends in an array of restart points and its length, all of 4 bytes. Reading from the start needs none of them.
    end = len(block) - 4 - 4 * unpack_from("<I", block, len(block) - 4)[0]
    at = 0
    name = b""  # an entry states how many letters its name shares with the name before it, and then the other letters
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        size, at = _varint(block, at)
        letters -= shared + unshared
        if letters < 0:
            raise RefusalError("its names are too long")
        if shared > len(name) or at + unshared + size > end:
            raise RefusalError("its names are not whole")
        name = name[:shared] + block[at : at + unshared]
        yield name, block[at + unshared : at + unshared + size]
        at += unshared + size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length integer, with seven bits per byte, and the position after it."""
    number = 0
    for k, byte in enumerate(content[at : at + 10]):
        number |= (byte & 127) << 7 * k
        if byte < 128:
            return number, at + k + 1
    raise RefusalError("it has a number that does not end")
