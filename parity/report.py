"""What a person and a program read of a run: one line a case, a summary, JSON."""

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

from jlstm.io import write
from parity import peers
from parity.measure import Comparison, Quantity
from parity.table import Case


class Outcome(NamedTuple):
    """A case that was run."""

    case: Case
    comparison: Comparison

    @property
    def accepted(self) -> bool:
        """Whether both sides are the same or, where the peer is known to be wrong, it still is."""
        return self.comparison.verdict == ("peer-bug" if self.case.known_bug else "pass")

    @property
    def mended(self) -> bool:
        """Whether the peer is right where it was known to be wrong."""
        return bool(self.case.known_bug) and self.comparison.verdict == "pass"


HEAD = f"{'verdict':11}{'dtype':10}{'worst error':13}{'ulp':>8}{'ours/peer':>11}  {'of':36}case"


def line(outcome: Outcome) -> str:
    """One line: verdict, dtype, our worst distance from the truth, absolute and in ULP, the median of ours/peer, the case."""
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
    """What is wrong with the side that is off, in lines that stand below the case's; nothing where none is, or it is known."""
    comparison = outcome.comparison
    if comparison.diagnosis is None or outcome.accepted:
        return ""
    who = comparison.diagnosed or ("ours" if comparison.verdict == "fail" else outcome.case.peer)
    return textwrap.indent(f"{who}: {comparison.diagnosis}", " " * 9)


LARGEST_RATIO = 1.1  # of our rounding errors to a peer's, the median over a whole table


def accepted(outcomes: Sequence[Outcome]) -> bool:
    """Whether every case is, and over a table of some size our rounding is no worse than the peers'."""
    ratio = median_ratio(outcomes)
    return all(outcome.accepted for outcome in outcomes) and (len(outcomes) < 100 or ratio is None or ratio <= LARGEST_RATIO)


def summary(outcomes: Sequence[Outcome], held: tuple[int, int] | None, seconds: float) -> str:
    """The last lines: counts, pairs of options held by a table, the median ratio of the errors below float64, versions."""
    counts = Counter(outcome.comparison.verdict for outcome in outcomes)
    verdicts = ", ".join(f"{counts[name]} {name}" for name in ("pass", "peer-bug", "fail") if counts[name] or name != "peer-bug")
    used = ", ".join(versions(outcomes).values())
    options = f" Pairs of options: {held[0]} of {held[1]}." if held else ""
    ratio = median_ratio(outcomes)
    return (
        f"{len(outcomes)} cases in {seconds:.0f} s: {verdicts}.{options}\n"
        f"Median of our error over the peer's below float64: {'none run' if ratio is None else f'{ratio:.2f}'} "
        f"(a whole table may have {LARGEST_RATIO}). "
        f"jax {jax.__version__}, {used}."
    )


def versions(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """The versions of the frameworks that were compared with, by name."""
    return {name: peers.version(name) for name in sorted({outcome.case.peer for outcome in outcomes})}


def median_ratio(outcomes: Sequence[Outcome]) -> float | None:
    """The median over all quantities of all cases below float64 that no bug is known of; None if there are none."""
    counted = (o.comparison for o in outcomes if o.comparison.dtype != "float64" and not o.case.known_bug)
    ratios = [quantity.ratio for comparison in counted for quantity in comparison.quantities]
    return statistics.median(ratios) if ratios else None


def contents(outcomes: Sequence[Outcome], held: tuple[int, int] | None, file: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything that was measured, and with what, as JSON has it.

    Args:
        outcomes: the cases.
        held: pairs of options that a table holds, and that there are.
        file: of a model's file, what `parity.model.facts` says of it.
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
        "pairs": {"held": held[0], "sensible": held[1]} if held else None,
        "median_ratio": _number(median_ratio(outcomes)),
        "cases": [_as_dict(outcome) for outcome in outcomes],
    }


def write_json(
    path: str | os.PathLike[str],
    outcomes: Sequence[Outcome],
    held: tuple[int, int] | None,
    file: Mapping[str, Any] | None = None,
) -> None:
    """Write everything that was measured; beside the file first, then renamed."""
    write(path, (json.dumps(contents(outcomes, held, file), indent=1, allow_nan=False) + "\n").encode())


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
