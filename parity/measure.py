"""The verdict: how far each side is from the float64 truth, and whether that is rounding."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jlstm import checks
from parity import ours, peers
from parity.case import Problem, Quantities, Values, draw, truth
from parity.diagnosis import Diagnosis, explain
from parity.diagnosis.facts import errors_by_time, is_sequence
from parity.table import known_bug


@dataclass(frozen=True)
class Quantity:
    """One result or gradient of both sides, held against the truth.

    Distances are the largest absolute difference from the float64 truth. `ulp` says how many units in the last place that is, of
    the quantity's largest value in the case's dtype.

    Args:
        name: `ys`, `carry.h`, `d_params.kernel`, ….
        scale: the largest absolute value of the truth.
        ours, peer: the distances.
        eps: spacing of the dtype's numbers at 1.
        limit: the largest distance of ours that passes.
        peer_limit: the largest of the peer's, infinite where only the peer's own rounding says what can be asked.
        ours_by_time, peer_by_time: the distances at each step, of outputs and of the inputs' gradient; else empty.
        limit_by_time: the largest distance of ours that passes at each step, where that differs from step to step; else empty.
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
        """Our distance in units in the last place of the largest value."""
        return self.ours / (self.eps * self.scale) if self.scale else self.ours

    @property
    def peer_ulp(self) -> float:
        """The peer's."""
        return self.peer / (self.eps * self.scale) if self.scale else self.peer

    @property
    def ratio(self) -> float:
        """Our distance over the peer's; 1 where both are nothing but the last bit."""
        floor = self.eps * self.scale / 2
        return max(self.ours, floor) / max(self.peer, floor) if floor else 1.0

    @property
    def verdict(self) -> str:
        """`fail` where we are wrong, `peer-bug` where the peer is, else `pass`."""
        steps = zip(self.ours_by_time, self.limit_by_time, strict=True) if self.limit_by_time else ()
        if not self.ours <= self.limit or not all(off <= limit for off, limit in steps):  # so that NaN fails
            return "fail"
        return "pass" if self.peer <= self.peer_limit else "peer-bug"


@dataclass(frozen=True)
class Comparison:
    """All quantities of one problem, what is wrong with the side that is off, if one is, and which the peer does not give.

    `diagnosed` is the side that the diagnosis is of, "ours" or the peer's name; None: the one that the verdict says is wrong.
    `incomplete` says what the comparison leaves out of what belongs to the layer; "" if nothing.
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
        """The worst of the quantities': `fail`, `peer-bug`, or `pass`, which is `incomplete` where something is left out."""
        verdicts = [quantity.verdict for quantity in self.quantities]
        agreed = "incomplete" if self.incomplete else "pass"
        return next((verdict for verdict in ("fail", "peer-bug") if verdict in verdicts), agreed)

    @property
    def worst(self) -> Quantity:
        """The quantity that speaks most against us, or else against the peer."""

        def badness(quantity: Quantity) -> tuple[int, float]:
            ulp = quantity.peer_ulp if quantity.verdict == "peer-bug" else quantity.ours_ulp
            return ("pass", "peer-bug", "fail").index(quantity.verdict), float(np.nan_to_num(ulp, nan=np.inf))

        return max(self.quantities, key=badness)

    @property
    def ratio(self) -> float:
        """The median of our distances over the peer's."""
        return statistics.median(quantity.ratio for quantity in self.quantities)


def judge(
    truths: Quantities,
    ours_: Quantities,
    peer: Quantities,
    *,
    dtype: str,
    time: int,
    not_given: Sequence[str] = (),
    known_bug: bool = False,
) -> tuple[Quantity, ...]:
    """Hold both sides against the truth.

    In float64 both must agree with it to rounding, 1e-12 of the largest value, growing with the number of steps: that proves the
    formula. In lower precision ours may be no farther off than 8 × max(the peer's distance, 4 · eps · scale).
    Where the peer is known to be wrong, its distance is no measure of ours, and rounding does not bring it farther off than the
    root of eps. What the peer is known not to give is not compared.

    Raises:
        ValueError: the sides do not have the same quantities, but for those; or nothing is left to compare.
    """
    if not truths.keys() - not_given:
        raise ValueError("the peer gives no quantity: there is nothing to compare")
    if not truths.keys() == ours_.keys() == peer.keys() | set(not_given):
        different = sorted(truths.keys() ^ ours_.keys() | truths.keys() ^ (peer.keys() | set(not_given)))
        raise ValueError(f"all sides must have the same quantities, these are not in all: {', '.join(different)}")
    eps = float(jnp.finfo(dtype).eps)
    quantities = []
    for name in (name for name in truths if name not in not_given):
        true = truths[name]
        scale = float(np.abs(true).max(initial=0))
        from_ours, from_peer = _distance(ours_[name], true), _distance(peer[name], true)
        if dtype == "float64":
            limit = peer_limit = 1e-12 * max(1, time / 100) * scale
        elif known_bug:
            limit, peer_limit = 32 * eps * scale, eps**0.5 * scale
        else:
            limit, peer_limit = 8 * max(from_peer, 4 * eps * scale), np.inf
        by_time = (_by_time(name, side[name], true) for side in (ours_, peer))
        quantities.append(Quantity(name, scale, from_ours, from_peer, eps, limit, peer_limit, *by_time))
    return tuple(quantities)


def compare(problem: Problem, peer: str = "keras", *, run: Callable[[Problem, Values], Quantities] = ours.run) -> Comparison:
    """Run a problem on our side and on the peer's, and hold both against the float64 textbook.

    Args:
        problem: what to run.
        peer: a framework's name, see `parity.peers.names()`.
        run: our side; another function in its place shows what the verdict makes of its results.

    Raises:
        ValueError: there is no such peer, or the peer has no such layer.
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
    if why := peers.lacks(framework, problem):
        raise ValueError(f"peer {peer!r} cannot be asked for this: {why}")
    values = draw(problem)
    sides = (truth(problem, values), run(problem, values), framework.run(problem, values))
    not_given = tuple(name for name in sides[0] if name.startswith(tuple(getattr(framework, "NOT_GIVEN", ()))))
    known = bool(known_bug(framework, problem))
    quantities = judge(*sides, dtype=problem.dtype, time=values.xs.shape[1], not_given=not_given, known_bug=known)
    compared = Comparison(peer, problem.dtype, quantities, not_given=not_given)
    if compared.verdict == "pass":
        return compared
    wrong = sides[1] if compared.verdict == "fail" else sides[2]
    return replace(compared, diagnosis=explain(problem, values, sides[0], wrong))


def assert_same(problem: Problem, peer: str = "keras") -> None:
    """Raise AssertionError with the quantities that differ and a diagnosis, unless `compare` passes: for your own tests.

    Examples:
        >>> from jlstm import LSTM, Stack
        >>> from parity import Problem, assert_same
        >>> assert_same(Problem(Stack((LSTM(5), LSTM(4)))), peer="keras")
    """
    comparison = compare(problem, peer)
    wrong = [q for q in comparison.quantities if q.verdict != "pass"]
    if wrong:
        who = "ours" if comparison.verdict == "fail" else peer
        lines = [f"{q.name}: {q.verdict}, off by {q.ours:.2g} (allowed {q.limit:.2g}), {peer} by {q.peer:.2g}" for q in wrong]
        lines.append(f"{who}: {comparison.diagnosis}")
        raise AssertionError(f"{problem.layer} in {problem.dtype} is not the same as {peer}'s:\n" + "\n".join(lines))


def _by_time(name: str, got: Any, true: np.ndarray) -> tuple[float, ...]:
    same = is_sequence(name) and true.ndim >= 3 and np.shape(got) == true.shape
    return tuple(errors_by_time(np.asarray(got), true).tolist()) if same else ()


def _distance(got: Any, true: np.ndarray) -> float:
    if np.shape(got) != true.shape:
        return float("inf")
    if not (np.isfinite(got).all() and np.isfinite(true).all()):  # an infinite truth would allow any finite distance
        return float("nan")
    return float(np.abs(got - true).max(initial=0))
