"""The distances from the float64 truth that a verdict allows, each with its reason.

A scale is the largest absolute value of the truth, and eps the machine epsilon of the dtype.
"""


def of_float64(time: int) -> float:
    """Return the share of the scale that is allowed in float64: 1e-12 up to 100 steps, beyond in proportion to the steps.

    That is the rounding of some 5,000 operations at 2.2e-16 each, which adds up over time. A wrong formula is off by far more.
    """
    return 1e-12 * max(1, time / 100)


OF_PEER = 8
"""The limit below float64, times the distance of the peer. Two correct programs round in different orders, so their distances
differ by a small factor."""

LEAST_OF_PEER = 4
"""The smallest distance that the peer is taken to have, times eps · scale. The peer may be exact by luck where ours rounds."""

WITHOUT_PEER = 32
"""The limit where the peer is known to be wrong, times eps · scale. Such a peer cannot measure ours. It is `OF_PEER` ·
`LEAST_OF_PEER`."""


def clearly_wrong(eps: float) -> float:
    """Return the share of the scale above which a distance is a fault and not rounding: half of the digits are lost."""
    return eps**0.5
