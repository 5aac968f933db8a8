"""The index of a TensorFlow checkpoint, looked at before TensorFlow is: it ends the process where a description is not one.

A table of names and descriptions in blocks, which are not compressed; every block is looked at once, and together they are no
longer than the file. Checksums are left to TensorFlow.

Reference: LevelDB, doc/table_format.md; TensorFlow, tensorflow/core/protobuf/tensor_bundle.proto.
"""

from collections.abc import Iterator
from pathlib import Path
from struct import unpack_from
from typing import Any

from jlstm.convert import files
from jlstm.convert.files import RefusalError

_MAGIC, _FOOTER, _MOST_AXES = 0xDB4775248B80FB57, 48, 254
GRAPH, _STRING = "_CHECKPOINTABLE_OBJECT_GRAPH", 7
_LETTERS = 64  # that all names together may have for each byte of the file: TensorFlow holds each of them in full


def checked(path: Path) -> bool:
    """Check all entries of an index.

    Returns:
        Whether the checkpoint has a description of objects, which TensorFlow can read.

    Raises:
        ValueError: it is no whole index, or describes arrays that cannot be.
    """
    proto = files.needed("tensorflow.core.protobuf.tensor_bundle_pb2", path)
    decode_error = files.needed("google.protobuf.message", path).DecodeError
    graphs, shards = [], 0
    try:
        for name, value in _table(path.read_bytes()):
            description = (proto.BundleEntryProto if name else proto.BundleHeaderProto).FromString(value)
            if name:
                _possible(description.shape)
            else:
                shards = description.num_shards
            if name == GRAPH.encode():
                graphs.append(description)
        if len(graphs) > 1:
            raise RefusalError("it describes its objects twice")
        for entry in graphs:
            _one_text(path, entry, shards)
    except (RefusalError, decode_error) as error:
        raise ValueError(f"{path} is not a whole index of a checkpoint ({files.reason(error)}): copy all its files") from error
    return bool(graphs)


def _one_text(path: Path, entry: Any, shards: int) -> None:
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


def _possible(shape: Any) -> None:
    size = 1
    for axis in shape.dim[: _MOST_AXES + 1]:
        size *= max(axis.size, 1)
        if axis.size < 0 or size >= 2**63:
            raise RefusalError("an array of a shape that cannot be")
    if shape.unknown_rank or len(shape.dim) > _MOST_AXES:
        raise RefusalError("an array of a shape that cannot be")


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield all names and values of a table. The first name is empty."""
    if len(content) < _FOOTER or unpack_from("<Q", content, len(content) - 8)[0] != _MAGIC:
        raise RefusalError("its end is missing")
    footer = content[-_FOOTER:-8]
    at = 0
    for _ in range(2):  # past the first handle, of a block that is not in use
        _, at = _varint(footer, at)
    left, letters = len(content), _LETTERS * len(content)
    for _, handle in _entries(_block(content, footer, at), letters):
        block = _block(content, handle, 0)
        left -= len(block)
        if left < 0:
            raise RefusalError("its blocks are not where it says")
        for name, value in _entries(block, letters):
            letters -= len(name)
            yield name, value


def _block(content: bytes, handle: bytes, at: int) -> bytes:
    start, at = _varint(handle, at)
    size, _ = _varint(handle, at)
    if start + size + 5 > len(content) or size < 4:
        raise RefusalError("it ends before what it declares")
    if content[start + size] != 0:
        raise RefusalError("it is compressed, which TensorFlow does not write")
    return content[start : start + size]


def _entries(block: bytes, letters: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and values of a block. Its names may have at most `letters` bytes in total."""
    end = len(block) - 4 - 4 * unpack_from("<I", block, len(block) - 4)[0]
    at = 0
    name = b""  # begins with letters of the name before
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        size, at = _varint(block, at)
        letters -= shared + own
        if letters < 0:
            raise RefusalError("its names are too long")
        if shared > len(name) or at + own + size > end:
            raise RefusalError("its names are not whole")
        name = name[:shared] + block[at : at + own]
        yield name, block[at + own : at + own + size]
        at += own + size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length integer, with seven bits per byte, and the position after it."""
    number = 0
    for k, byte in enumerate(content[at : at + 10]):
        number |= (byte & 127) << 7 * k
        if byte < 128:
            return number, at + k + 1
    raise RefusalError("it has a number that does not end")
