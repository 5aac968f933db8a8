"""The report as one self-contained HTML page: summary, table, heat map, error curves, versions and machine."""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jlstm._src.serialization import write

# Signs beside the colors, for readers who cannot tell the colors apart.
MARKS = {"pass": "✓", "incomplete": "◐", "peer-bug": "⚑", "fail": "✗"}
COLUMNS = (
    ("verdict", "verdict"),
    ("dtype", "dtype"),
    ("peer", "peer"),
    ("case", "case"),
    ("worst", "worst in"),
    ("ulp", "ULP"),
    ("ratio", "ours/peer"),
)
BIN_EDGES = (0.5, 1, 2, 4, 8, 16, 32)  # in ULP: the limits between the colors
LONG_CURVE = 20  # curves of at least this many steps are shown below, whatever the verdict
MOST_POINTS = 120  # of a curve, at most
MOST_FEATURED = 24  # curves below the table, at most


def write_html(path: str | os.PathLike[str], report: Mapping[str, Any]) -> None:
    """Write the page. The file is written under a temporary name beside its target and then renamed.

    Args:
        path: the file to write.
        report: the result of `parity.report.contents`.

    Raises:
        OSError: the file cannot be written.
    """
    write(path, page(report).encode())


def page(report: Mapping[str, Any]) -> str:
    """Return the page as text.

    Args:
        report: the result of `parity.report.contents`.

    Returns:
        HTML that contains its styles, script and pictures.
    """
    templates = Environment(loader=PackageLoader("parity"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    picture = templates.get_template("curve.svg")
    kinds = _kinds(report["cases"])
    rows = [_row(case, kinds) for case in report["cases"]]
    shown = [row for row in rows if row["curve"]]
    featured = [row for row in shown if report["file"] or row["verdict"] == "fail" or row["curve"]["last"] >= LONG_CURVE]
    return templates.get_template("report.html").render(
        report=report,
        rows=rows,
        featured=sorted(featured, key=lambda row: row["verdict"] != "fail")[:MOST_FEATURED],
        counts=dict.fromkeys(MARKS, 0) | Counter(row["verdict"] for row in rows),
        choices={name: sorted({row[name] for row in rows}) for name in ("verdict", "dtype", "peer")},
        peers=", ".join(sorted({row["peer"] for row in rows})),
        kinds=kinds,
        legend=[f"≤ {BIN_EDGES[0]}", *(f"≤ {bound}" for bound in BIN_EDGES[1:]), f"> {BIN_EDGES[-1]} or NaN"],
        columns=COLUMNS,
        marks=MARKS,
        curve=lambda points: Markup(picture.render(c=points)),  # the template escapes
    )


def _kinds(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of all quantities, without layer numbers and directions, in the order of the columns."""
    names = {_kind(quantity["name"]) for case in cases for quantity in case["quantities"]}
    first = ("ys", "carry", "d_xs", "d_carry", "d_params")
    return sorted(names, key=lambda name: (*(not name.startswith(prefix) for prefix in first), name))


def _kind(name: str) -> str:
    head, *parts = name.split(".")
    words = [part for part in parts if not part.isdigit() and part not in ("forward", "backward")]
    return ".".join([head, *words])


def _row(case: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    quantities = case["quantities"]
    side = "peer_ulp" if case["verdict"] == "peer-bug" else "ours_ulp"
    worst = max(quantities, key=lambda quantity: _number(quantity[side]))
    ratios = sorted(quantity["ratio"] if quantity["ratio"] is not None else math.inf for quantity in quantities)
    ratio = ratios[len(ratios) // 2]
    heat = []
    for kind in kinds:
        matches = [quantity for quantity in quantities if _kind(quantity["name"]) == kind]
        heat.append(_cell(*(max(_number(q[name]) for q in matches) for name in ("ours_ulp", "peer_ulp"))) if matches else None)
    return {
        "verdict": case["verdict"],
        "rank": list(MARKS).index(case["verdict"]),
        "dtype": case["dtype"],
        "peer": case["peer"],
        "name": case["name"],
        "worst": worst,
        # The script of the page sorts by these numbers, and JavaScript reads "inf" as NaN.
        "ulp": min(_number(worst[side]), 1e300),
        "shown_ulp": _shown(_number(worst[side])),
        "ratio": min(ratio, 1e300),
        "shown_ratio": f"{ratio:.2f}" if ratio < 100 else _shown(ratio),
        "why": "\n".join(filter(None, (case["known_bug"], case["incomplete"], case["diagnosis"]))),
        "heat": heat,
        "curve": _curve(quantities),
    }


def _number(value: float | None) -> float:
    """Return the number; infinity for JSON's null, which stands for NaN or infinity."""
    return math.inf if value is None else value


def _shown(ulp: float) -> str:
    return "∞" if math.isinf(ulp) else f"{ulp:.1f}" if ulp < 1e4 else f"{ulp:.0e}"


def _cell(ours: float, peer: float) -> dict[str, Any]:
    bins = {f"{name}_bin": sum(ulp > bound for bound in BIN_EDGES) for name, ulp in (("ours", ours), ("peer", peer))}
    return {"ours": _shown(ours), "peer": _shown(peer), **bins}


def _curve(quantities: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the outputs' errors of both sides per step, as lines of a logarithmic plot; None for a single step."""
    curves = [q for q in quantities if q["name"].startswith("ys") and len(q["ours_by_time"]) > 1]
    if not curves:
        return None
    sides = {
        side: _thinned([_largest(step) for step in zip(*(q[f"{side}_by_time"] for q in curves), strict=True)]) for side in SIDES
    }
    positive = [value for values in sides.values() for value in values if 0 < value < math.inf]
    low, high = (math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))) if positive else (-1, 0)
    high = max(high, low + 1)  # at least one decade, or the height would divide by zero

    def height(value: float) -> float:
        # A logarithm has no place for 0 and infinity: they are drawn at the edges.
        exponent = low if value <= 0 else high if math.isinf(value) else math.log10(value)
        # The frame of curve.svg: height runs from 100 at the bottom to 8, time below from 44 to 312.
        return round(100 - 92 * (exponent - low) / (high - low), 1)

    lines = {
        side: " ".join(f"{44 + 268 * k / (len(values) - 1):.1f},{height(value)}" for k, value in enumerate(values))
        for side, values in sides.items()
    }
    if not any(sides["peer"]):
        lines["peer"] = ""  # the peer is the truth itself: a line at zero would mislead
    steps = range(low, high + 1, max(1, (high - low) // 4))
    return {
        "last": len(curves[0]["ours_by_time"]) - 1,
        "ticks": [(height(10.0**exponent), f"1e{exponent}") for exponent in steps],
        **lines,
        **{f"{side}_max": f"{max(values):.2g}" for side, values in sides.items()},
    }


SIDES = ("ours", "peer")


def _largest(values: Sequence[float | None]) -> float:
    return max(map(_number, values))


def _thinned(values: list[float]) -> list[float]:
    """Return at most `MOST_POINTS` values, each the largest of the values that it stands for."""
    size = math.ceil(len(values) / MOST_POINTS)
    return [max(values[k : k + size]) for k in range(0, len(values), size)]
