"""Bits that change in a file of arrays."""

import numpy as np

from jlstm import io


def flipped(content, bit):
    """The same bytes but for one bit."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def unnoticed(content, bits):
    """The share of bits that can flip without a refusal; what is then read has to be the same. Refusals are one short line."""
    arrays, metadata = io.unpack(content)
    count = 0
    for bit in bits:
        try:
            again, description = io.unpack(flipped(content, bit))
        except ValueError as error:
            sentence = str(error)
            assert "\n" not in sentence
            assert len(sentence) < 200
        else:
            count += 1
            assert description == metadata
            np.testing.assert_equal(again, arrays)
    return count / len(bits)
