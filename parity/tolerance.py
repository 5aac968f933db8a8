"""The distances from the float64 truth that a verdict allows, and the errors that a diagnosis compares, each with its reason.

A scale is the largest absolute value of the truth, and eps the machine epsilon of the dtype. The errors of a diagnosis are
relative to the scale.
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


OF_NUMPY = 8
"""The limit in a layer that amplifies rounding, times the rounding error of the textbook in the same dtype. It is `OF_PEER`:
NumPy takes the place of the peer."""

FLOAT64_MATCH = 1e-9
"""The largest error of a match in float64: far above rounding, and far below what a fault changes."""


def match(dtype: str, eps: float) -> float:
    """Return the largest error that remains if a fault, or another cause, explains the results.

    Below float64 it is half of `WITHOUT_PEER` · eps, above which a result counts as wrong. So a cause that leaves the results as
    wrong as they were is no match.
    """
    return FLOAT64_MATCH if dtype == "float64" else WITHOUT_PEER * eps / 2


SHRINKS = 4
"""How many times smaller an error must be with a fault than without it. Else harmless changes would seem to explain an error that
is near the limit of a match."""

EQUALLY_GOOD = 4
"""Faults are reported together if their errors are at most this times the smallest one: smaller factors come from rounding."""

UNRANKED = 1e-3
"""Below this share of the limit of a match errors are rounding alone, and do not rank faults."""

LOWER_DTYPE = 64
"""The largest error of results that were computed in a lower dtype and rounded once more, times eps of that dtype. It is twice
`WITHOUT_PEER`, since such a side may be a wrong peer."""

LIKE_FLOAT32 = 1e-5
"""The largest error in float64 that looks like float32's rounding: 84 times its eps, 1.2e-7."""

LIKE_ROUNDING = 1e-3
"""The largest error that may be called rounding if it grows step by step. About half of float32's digits are lost then."""

NEAR_LIMIT = 1e-2
"""Rounding that adds up over time has more than this share of the limit one step before it passes the limit. A fault starts from
a far smaller error."""

SAME_SIZE = 4
"""Two errors within this factor are about the same: medians over a few steps differ by that without a trend."""


def of_model(eps: float) -> float:
    """Return the share of the scale by which the results of two whole models may differ, without a truth to compare with.

    1e-11 in float64: ten times the rounding of a layer. Else 256 · eps, since every layer adds to the rounding of those before
    it, but at most √eps, above which results are clearly wrong.
    """
    return 1e-11 if eps < 1e-12 else min(256 * eps, clearly_wrong(eps))
