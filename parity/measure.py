"""The verdict: how far each side is from the float64 truth, and whether rounding explains the distance."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jlstm._src import checks
from parity import ours, peers, tolerance
from parity.diagnosis import Diagnosis, explain
from parity.diagnosis.facts import errors_by_time, is_sequence
from parity.problem import Problem
from parity.quantities import Quantities, truth
from parity.values import Values, draw


@dataclass(frozen=True)
class Quantity:
    """One result or gradient of both sides, compared with the truth.

    A distance is the largest absolute difference from the float64 truth.

    Args:
        name: `ys`, `carry.h`, `d_params.kernel`, ….
        scale: the largest absolute value of the truth.
        ours, peer: the distances of both sides.
        eps: the machine epsilon of the dtype (the spacing of its numbers at 1).
        limit: the largest distance of ours that passes.
        peer_limit: the largest distance of the peer that passes. Infinite below float64 without a known bug, where the peer's own
            rounding is the measure.
        ours_by_time, peer_by_time: the distances at each step, for outputs and the gradient of the inputs; else empty.
        limit_by_time: the largest distance of ours that passes at each step, if the limit differs between steps; else empty.
    """

    name: str
    scale: float
    ours: float
    peer: float
    eps: float
    limit: float
    peer_limit: float
    ours_by_time: tuple[float, ...] = ()
    peer_by_time: tuple[float, ...] = ()
    limit_by_time: tuple[float, ...] = ()

    @property
    def ours_ulp(self) -> float:
        """Our distance in units in the last place (ULP) of the quantity's largest value."""
        return self.ours / (self.eps * self.scale) if self.scale else self.ours

    @property
    def peer_ulp(self) -> float:
        """The peer's distance in units in the last place (ULP) of the quantity's largest value."""
        return self.peer / (self.eps * self.scale) if self.scale else self.peer

    @property
    def ratio(self) -> float:
        """Our distance over the peer's; 1 if both are below half a unit in the last place."""
        floor = self.eps * self.scale / 2  # the rounding of a correct result; below it a quotient means nothing
        return max(self.ours, floor) / max(self.peer, floor) if floor else 1.0

    @property
    def verdict(self) -> str:
        """`fail` if ours is wrong, `peer-bug` if only the peer is, else `pass`."""
        steps = zip(self.ours_by_time, self.limit_by_time, strict=True) if self.limit_by_time else ()
        # `not <=` rather than `>`: NaN must fail.
        if not self.ours <= self.limit or not all(distance <= limit for distance, limit in steps):
            return "fail"
        return "pass" if self.peer <= self.peer_limit else "peer-bug"


@dataclass(frozen=True)
class Comparison:
    """All quantities of one problem, and the diagnosis of the side that is wrong.

    Args:
        peer: the peer's name.
        dtype: the dtype of the problem.
        quantities: the compared quantities.
        diagnosis: why the wrong side differs from the truth; None if neither does.
        diagnosed: the side that the diagnosis describes, "ours" or the peer's name; None for the side that the verdict blames.
        not_given: names of the quantities that the peer does not compute.
        incomplete: which parts of the layer were not compared; "" if none.
    """

    peer: str
    dtype: str
    quantities: tuple[Quantity, ...]
    diagnosis: Diagnosis | None = None
    diagnosed: str | None = None
    not_given: tuple[str, ...] = ()
    incomplete: str = ""

    @property
    def verdict(self) -> str:
        """The worst of the quantities' verdicts; `incomplete` in place of `pass` if parts of the layer were left out."""
        verdicts = [quantity.verdict for quantity in self.quantities]
        agreed = "incomplete" if self.incomplete else "pass"
        return next((verdict for verdict in ("fail", "peer-bug") if verdict in verdicts), agreed)

    @property
    def worst(self) -> Quantity:
        """The quantity with the worst verdict and, among those, the largest error in ULP."""

        def badness(quantity: Quantity) -> tuple[int, float]:
            ulp = quantity.peer_ulp if quantity.verdict == "peer-bug" else quantity.ours_ulp
            # NaN is neither larger nor smaller than a number, so `max` could pass over it: it counts as infinite.
            return ("pass", "peer-bug", "fail").index(quantity.verdict), float(np.nan_to_num(ulp, nan=np.inf))

        return max(self.quantities, key=badness)

    @property
    def ratio(self) -> float:
        """The median over all quantities of our distance over the peer's."""
        return statistics.median(quantity.ratio for quantity in self.quantities)


def judge(
    truths: Quantities,
    our_results: Quantities,
    peer_results: Quantities,
    *,
    dtype: str,
    time: int,
    not_given: Sequence[str] = (),
    known_bug: bool = False,
) -> tuple[Quantity, ...]:
    """Compare both sides with the truth.

    In float64 both sides must agree with the truth to rounding: 1e-12 of the largest value, growing with the number of steps.
    This proves the formula. In lower precision our distance may be at most 8 · max(the peer's distance, 4 · eps · scale). If the
    peer is known to be wrong, its distance cannot measure ours: we get 32 · eps · scale, and the peer's distance counts as a bug
    above sqrt(eps) · scale, which rounding alone does not reach. Quantities in `not_given` are not compared.

    Args:
        truths: the float64 quantities.
        our_results: our quantities.
        peer_results: the peer's quantities.
        dtype: the dtype that both sides computed in.
        time: the number of steps.
        not_given: names of the quantities that the peer does not compute.
        known_bug: whether the peer is known to be wrong in this problem.

    Returns:
        One `Quantity` for each compared name.

    Raises:
        ValueError: the sides do not have the same quantities, apart from `not_given`; or nothing is left to compare.
    """
    if not truths.keys() - not_given:
        raise ValueError("the peer gives no quantity: there is nothing to compare")
    if not truths.keys() == our_results.keys() == peer_results.keys() | set(not_given):
        different = sorted(truths.keys() ^ our_results.keys() | truths.keys() ^ (peer_results.keys() | set(not_given)))
        raise ValueError(f"all sides must have the same quantities, these are not in all: {', '.join(different)}")
    eps = float(jnp.finfo(dtype).eps)
    quantities = []
    for name in (name for name in truths if name not in not_given):
        expected = truths[name]
        scale = float(np.abs(expected).max(initial=0))
        from_ours, from_peer = _distance(our_results[name], expected), _distance(peer_results[name], expected)
        # Three cases: the formula is proved in float64, a right peer measures our rounding, a wrong peer measures nothing.
        if dtype == "float64":
            # A truth of zeros has the scale 0, and only zeros agree with it.
            limit = peer_limit = tolerance.of_float64(time) * scale
        elif known_bug:
            limit, peer_limit = tolerance.WITHOUT_PEER * eps * scale, tolerance.clearly_wrong(eps) * scale
        else:
            limit, peer_limit = tolerance.OF_PEER * max(from_peer, tolerance.LEAST_OF_PEER * eps * scale), np.inf
        by_time = (_by_time(name, side[name], expected) for side in (our_results, peer_results))
        quantities.append(Quantity(name, scale, from_ours, from_peer, eps, limit, peer_limit, *by_time))
    return tuple(quantities)


def compare(problem: Problem, peer: str = "keras", *, run: Callable[[Problem, Values], Quantities] = ours.run) -> Comparison:
    """Run a problem on our side and on the peer's, and compare both with the float64 textbook.

    Args:
        problem: what to run.
        peer: a framework's name, see `parity.peers.names()`.
        run: computes our side. Another function in its place shows the verdict on its results.

    Returns:
        The quantities, the verdict and, unless it is `pass`, a diagnosis.

    Raises:
        ValueError: there is no such peer, or it cannot run the problem.
        parity.peers.MissingPeerError: the peer is not installed.

    Examples:
        >>> from jlstm import LSTM
        >>> from parity import Problem, compare
        >>> compare(Problem(LSTM(4, reverse=True), dtype="float64", mask="left"), peer="keras").verdict
        'pass'
    """
    checks.instance("problem", problem, Problem, "Problem(layer)")
    checks.function("run", run, "(problem, values) -> quantities by name")
    framework = peers.load(peer)
    if reason := framework.lacks(problem):
        raise ValueError(f"peer {peer!r} cannot be asked for this: {reason}")
    values = draw(problem)
    sides = (truth(problem, values), run(problem, values), framework.run(problem, values))
    not_given = tuple(name for name in sides[0] if name.startswith(tuple(getattr(framework, "NOT_GIVEN", ()))))
    has_known_bug = bool(framework.known_bug(problem))
    quantities = judge(*sides, dtype=problem.dtype, time=values.xs.shape[1], not_given=not_given, known_bug=has_known_bug)
    compared = Comparison(peer, problem.dtype, quantities, not_given=not_given)
    if compared.verdict == "pass":
        return compared
    # If ours is right, the verdict blames the peer, and the diagnosis explains the peer's results.
    wrong = sides[1] if compared.verdict == "fail" else sides[2]
    return replace(compared, diagnosis=explain(problem, values, sides[0], wrong))


def assert_same(problem: Problem, peer: str = "keras") -> None:
    """Raise AssertionError unless `compare` passes. Use it in your own tests.

    Args:
        problem: what to run.
        peer: a framework's name, see `parity.peers.names()`.

    Raises:
        AssertionError: a quantity differs; the message lists all that do, and a diagnosis.
        ValueError: there is no such peer, or it cannot run the problem.
        parity.peers.MissingPeerError: the peer is not installed.

    Examples:
        >>> from jlstm import LSTM, Stack
        >>> from parity import Problem, assert_same
        >>> assert_same(Problem(Stack((LSTM(5), LSTM(4)))), peer="keras")
    """
    comparison = compare(problem, peer)
    wrong = [q for q in comparison.quantities if q.verdict != "pass"]
    if wrong:
        blamed_side = "ours" if comparison.verdict == "fail" else peer
        lines = [f"{q.name}: {q.verdict}, off by {q.ours:.2g} (allowed {q.limit:.2g}), {peer} by {q.peer:.2g}" for q in wrong]
        lines.append(f"{blamed_side}: {comparison.diagnosis}")
        raise AssertionError(f"{problem.layer} in {problem.dtype} is not the same as {peer}'s:\n" + "\n".join(lines))


def _by_time(name: str, got: Any, expected: np.ndarray) -> tuple[float, ...]:
    comparable = is_sequence(name) and expected.ndim >= 3 and np.shape(got) == expected.shape
    return tuple(errors_by_time(np.asarray(got), expected).tolist()) if comparable else ()


def _distance(got: Any, expected: np.ndarray) -> float:
    if np.shape(got) != expected.shape:
        return float("inf")
    if not (np.isfinite(got).all() and np.isfinite(expected).all()):  # an infinite truth would allow any finite distance
        return float("nan")
    return float(np.abs(got - expected).max(initial=0))
