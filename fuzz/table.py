"""Read and write the index of a TensorFlow checkpoint: a table of names and descriptions, in blocks that end with a checksum.

Reference: LevelDB's doc/table_format.md, and RFC 3720, appendix B.4, for the CRC-32C.
"""

import struct
from collections.abc import Iterator, Sequence

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)


def _bits(value: int) -> int:
    for _ in range(8):
        # The Castagnoli polynomial with its bits reversed, as this CRC takes the lowest bit first.
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC = [_bits(value) for value in range(256)]


def checksum(content: bytes) -> int:
    """Return the CRC-32C of the content, masked as LevelDB stores it.

    Examples:
        >>> hex(checksum(b"123456789"))
        '0xc78c9f8b'
    """
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


def _block(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return a block: each key without the prefix that it shares with the previous key, one restart point, no compression."""
    body = previous_key = b""
    for key, value in entries:
        pairs = enumerate(zip(previous_key, key, strict=False))
        shared = next((k for k, (a, b) in pairs if a != b), min(len(previous_key), len(key)))
        body += b"".join(map(_varint, (shared, len(key) - shared, len(value)))) + key[shared:] + value
        previous_key = key
    body += struct.pack("<2I", 0, 1) + b"\0"
    return body + struct.pack("<I", checksum(body))


def pack(parts: Sequence[bytes]) -> bytes:
    """Return a table.

    Args:
        parts: names and values, alternating. The table is sorted by name.
    """
    entries = sorted(dict(zip(parts[::2], parts[1::2], strict=False)).items())
    blocks = [_block(entries), _block([])]
    handles = [_varint(start) + _varint(len(block) - 5) for start, block in zip((0, len(blocks[0])), blocks, strict=True)]
    blocks.append(_block([(entries[-1][0] if entries else b"", handles[0])]))
    index = _varint(len(blocks[0]) + len(blocks[1])) + _varint(len(blocks[2]) - 5)
    return b"".join(blocks) + (handles[1] + index).ljust(40, b"\0") + _MAGIC


def unpack(content: bytes) -> list[bytes]:
    """Return the names and values of a table, alternating."""
    # The footer has 40 bytes of varints (offset and size of the metaindex and of the index), and 8 bytes of magic number.
    numbers = [number for number, _ in _varints(content[-48:-8], 4)]
    parts = []
    for _, handle in _entries(content[numbers[2] :][: numbers[3]]):
        start, size = (number for number, _ in _varints(handle, 2))
        for key, value in _entries(content[start:][:size]):
            parts += [key, value]
    return parts


def _varints(content: bytes, count: int, at: int = 0) -> Iterator[tuple[int, int]]:
    """Yield numbers of 7 bits a byte, lowest first, each with the position after it."""
    for _ in range(count):
        number, shift = 0, 0
        while content[at] & 128:
            number, shift, at = number | (content[at] & 127) << shift, shift + 7, at + 1
        number, at = number | content[at] << shift, at + 1
        yield number, at


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block without its checksum."""
    # At the end: the restart points, of 4 bytes each, and their number.
    end = len(block) - 4 - 4 * struct.unpack("<I", block[-4:])[0]
    at, key = 0, b""
    while at < end:
        (shared, _), (suffix_size, _), (size, at) = _varints(block, 3, at)
        key = key[:shared] + block[at : at + suffix_size]
        yield key, block[at + suffix_size : at + suffix_size + size]
        at += suffix_size + size
