"""Reports of a run: one line per case, a summary, and JSON."""

import json
import math
import os
import platform
import statistics
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import jax
import numpy as np

from jlstm._src.serialization import write
from parity import peers
from parity.measure import Comparison, Quantity
from parity.table import Case


class Outcome(NamedTuple):
    """A case and the comparison that it produced."""

    case: Case
    comparison: Comparison

    @property
    def accepted(self) -> bool:
        """Whether both sides agree or, where the peer has a known bug, whether that bug still shows."""
        return self.comparison.verdict == ("peer-bug" if self.case.known_bug else "pass")

    @property
    def mended(self) -> bool:
        """Whether the peer is now right in a case with a known bug."""
        return bool(self.case.known_bug) and self.comparison.verdict == "pass"


HEAD = f"{'verdict':11}{'dtype':10}{'worst error':13}{'ulp':>8}{'ours/peer':>11}  {'of':36}case"


def line(outcome: Outcome) -> str:
    """Return one line: verdict, dtype, our worst distance (absolute and in ULP), the median of ours/peer, and the case."""
    comparison, worst = outcome.comparison, outcome.comparison.worst
    figures = f"{worst.ours:<13.2e}{worst.ours_ulp:8.1f}{comparison.ratio:11.2f}"
    shown = f"{comparison.verdict:11}{comparison.dtype:10}{figures}  {worst.name:36}"
    if worst.verdict == "peer-bug":
        reason = outcome.case.known_bug or "not known before"
        return f"{shown}{outcome.case.name} (the peer is off by {worst.peer:.2g}: {reason})"
    if worst.verdict == "fail":
        return f"{shown}{outcome.case.name} (allowed {worst.limit:.2g}, the peer is off by {worst.peer:.2g})"
    if comparison.incomplete:
        return f"{shown}{outcome.case.name} ({comparison.incomplete})"
    if outcome.mended:
        return f"{shown}{outcome.case.name} (the peer has mended this, take the case out: {outcome.case.known_bug})"
    return shown + outcome.case.name + _not_given(comparison)


def _not_given(comparison: Comparison) -> str:
    count = len(comparison.not_given)
    return f" (without {count} of {count + len(comparison.quantities)} quantities, which the peer does not give)" if count else ""


def diagnosis(outcome: Outcome) -> str:
    """Return the indented diagnosis of the side that is wrong; "" if there is none or it is a known bug."""
    comparison = outcome.comparison
    if comparison.diagnosis is None or outcome.accepted:
        return ""
    side = comparison.diagnosed or ("ours" if comparison.verdict == "fail" else outcome.case.peer)
    return textwrap.indent(f"{side}: {comparison.diagnosis}", " " * 9)


LARGEST_RATIO = 1.1  # of our error to the peer's, as the median over a whole table; fewer cases scatter more


def accepted(outcomes: Sequence[Outcome]) -> bool:
    """Whether every case is accepted and, for 100 cases or more, the median ratio is at most `LARGEST_RATIO`."""
    ratio = median_ratio(outcomes)
    return all(outcome.accepted for outcome in outcomes) and (len(outcomes) < 100 or ratio is None or ratio <= LARGEST_RATIO)


def summary(outcomes: Sequence[Outcome], pair_counts: tuple[int, int] | None, seconds: float) -> str:
    """Return the last lines: counts of verdicts, covered pairs of options, median ratio of errors, and versions.

    Args:
        outcomes: the cases that were run.
        pair_counts: the number of covered pairs of options and of all sensible pairs; None for a model file.
        seconds: how long the run took.
    """
    counts = Counter(outcome.comparison.verdict for outcome in outcomes)
    verdicts = ", ".join(f"{counts[name]} {name}" for name in ("pass", "peer-bug", "fail") if counts[name] or name != "peer-bug")
    used = ", ".join(versions(outcomes).values())
    options = f" Pairs of options: {pair_counts[0]} of {pair_counts[1]}." if pair_counts else ""
    ratio = median_ratio(outcomes)
    return (
        f"{len(outcomes)} cases in {seconds:.0f} s: {verdicts}.{options}\n"
        f"Median of our error over the peer's below float64: {'none run' if ratio is None else f'{ratio:.2f}'} "
        f"(a whole table may have {LARGEST_RATIO}). "
        f"jax {jax.__version__}, {used}."
    )


def versions(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return the versions of the compared frameworks by name."""
    return {name: peers.version(name) for name in sorted({outcome.case.peer for outcome in outcomes})}


def median_ratio(outcomes: Sequence[Outcome]) -> float | None:
    """Return the median of ours/peer over all quantities below float64 in cases without a known bug; None if there are none."""
    # float64 proves the formula and says nothing about rounding. A wrong peer would make any ratio small.
    counted = (o.comparison for o in outcomes if o.comparison.dtype != "float64" and not o.case.known_bug)
    ratios = [quantity.ratio for comparison in counted for quantity in comparison.quantities]
    return statistics.median(ratios) if ratios else None


def contents(
    outcomes: Sequence[Outcome], pair_counts: tuple[int, int] | None, file: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return everything that was measured, and the versions and machine, as JSON-compatible data.

    Args:
        outcomes: the cases that were run.
        pair_counts: the number of covered pairs of options and of all sensible pairs; None for a model file.
        file: for a model file, the result of `parity.model.facts`.

    Returns:
        A dict of plain Python values; NaN and infinity become None.
    """
    return {
        "file": file,
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "jlstm": metadata.version("jlstm"),
            "python": platform.python_version(),
            "jax": jax.__version__,
            "numpy": np.__version__,
            **versions(outcomes),
        },
        "pairs": {"held": pair_counts[0], "sensible": pair_counts[1]} if pair_counts else None,
        "median_ratio": _number(median_ratio(outcomes)),
        "cases": [_as_dict(outcome) for outcome in outcomes],
    }


def write_json(
    path: str | os.PathLike[str],
    outcomes: Sequence[Outcome],
    pair_counts: tuple[int, int] | None,
    file: Mapping[str, Any] | None = None,
) -> None:
    """Write everything that was measured, as JSON.

    The file is written under a temporary name beside its target and then renamed.

    Args:
        path: the file to write.
        outcomes, pair_counts, file: as for `contents`.

    Raises:
        OSError: the file cannot be written.
    """
    write(path, (json.dumps(contents(outcomes, pair_counts, file), indent=1, allow_nan=False) + "\n").encode())


def _as_dict(outcome: Outcome) -> dict[str, Any]:
    case, comparison = outcome
    return {
        "name": case.name,
        "peer": case.peer,
        "dtype": comparison.dtype,
        "quantities": [_quantity(quantity) for quantity in comparison.quantities],
        "not_given": list(comparison.not_given),
        "verdict": comparison.verdict,
        "incomplete": comparison.incomplete or None,
        "diagnosis": str(comparison.diagnosis) if comparison.diagnosis else None,
        "known_bug": case.known_bug,
    }


def _quantity(quantity: Quantity) -> dict[str, Any]:
    names = ("name", "scale", "ours", "peer", "ours_ulp", "peer_ulp", "ratio", "limit", "verdict")
    by_time = {name: list(map(_number, getattr(quantity, name))) for name in ("ours_by_time", "peer_by_time", "limit_by_time")}
    return {name: _number(getattr(quantity, name)) for name in names} | by_time


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value  # JSON has no NaN
