"""Flip bits of a file of arrays, and count the flips that a reader does not notice."""

import numpy as np

from jlstm._src import serialization


def flipped(content, bit):
    """Return the bytes with one bit flipped."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def unnoticed(content, bits):
    """Return the share of bits whose flip is accepted. The content then read has to be the same; refusals are one short line."""
    arrays, metadata = serialization.unpack(content)
    count = 0
    for bit in bits:
        try:
            again, description = serialization.unpack(flipped(content, bit))
        except ValueError as error:
            sentence = str(error)
            assert "\n" not in sentence
            assert len(sentence) < 200
        else:
            count += 1
            assert description == metadata
            np.testing.assert_equal(again, arrays)
    return count / len(bits)
