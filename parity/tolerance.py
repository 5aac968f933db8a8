"""The distances from the float64 truth that a verdict allows, each with its reason.

A scale is the largest absolute value of the truth, and eps the machine epsilon of the dtype.
"""

FLOAT64 = 1e-12
"""Of the scale, in float64: rounding of some 10,000 operations at 2.2e-16 each. A wrong formula is off by far more."""

STEPS_OF_FLOAT64 = 100
"""Steps up to which `FLOAT64` holds. Rounding adds up over time, so the limit grows in proportion beyond them."""

OF_PEER = 8
"""Below float64, times the distance of the peer: two correct programs round in another order, and differ by a small factor."""

LEAST_OF_PEER = 4
"""Times eps · scale, the least distance that the peer is taken to have: it may be exact by luck, where ours rounds."""

WITHOUT_PEER = 32
"""Times eps · scale, where the peer is known to be wrong and so cannot measure ours: `OF_PEER` · `LEAST_OF_PEER`."""


def clearly_wrong(eps: float) -> float:
    """Return the share of the scale from which a distance is a fault and no rounding: half of the digits are lost."""
    return eps**0.5
