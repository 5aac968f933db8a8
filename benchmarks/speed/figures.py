"""Statistics of the measured times: spread, operations per second, ratios, means."""

import math
import statistics
from collections.abc import Iterable
from typing import Any

Report = dict[str, Any]
Row = dict[str, Any]

OURS = "jlstm"  # the backend that a user gets


def summary(row: Row) -> dict[str, float]:
    """Return the median, the lowest and the highest of the rounds' medians."""
    medians = [round_["median"] for round_ in row["rounds"]]
    return {"median": statistics.median(medians), "low": min(medians), "high": max(medians)}


def geometric_mean(values: Iterable[float]) -> float | None:
    """Return the n-th root of the product; None without values."""
    logarithms = [math.log(value) for value in values]
    return math.exp(statistics.fmean(logarithms)) if logarithms else None


def times(report: Report, point: str, job: str) -> dict[str, float]:
    """Return median seconds by framework, in the order of the report's frameworks."""
    found = {row["framework"]: row["median"] for row in report["rows"] if (row["point"], row["job"]) == (point, job)}
    return {name: found[name] for name in report["frameworks"] if name in found}


def names(report: Report, job: str, *groups: str) -> list[str]:
    """Return the points of the groups at which a job was measured."""
    measured = {row["point"] for row in report["rows"] if row["job"] == job}
    return [name for name, point in report["points"].items() if point["group"] in groups and name in measured]


def fastest_peer(report: Report, point: str, job: str) -> tuple[str, float] | None:
    """Return the fastest peer's name and median seconds; None if there is no peer."""
    peers = {name: each for name, each in times(report, point, job).items() if report["frameworks"][name]["peer"]}
    return min(peers.items(), key=lambda item: item[1]) if peers else None


def ratio(report: Report, point: str, job: str, ours: str = OURS) -> float | None:
    """Return the fastest peer's time over ours (above 1: ours is faster than all peers); None if either is missing."""
    fastest, own = fastest_peer(report, point, job), times(report, point, job).get(ours)
    return None if fastest is None or own is None else fastest[1] / own


def mean_ratio(report: Report, job: str, ours: str = OURS) -> float | None:
    """Return the geometric mean of `ratio` over the measured points of the grid."""
    ratios = [ratio(report, point, job, ours) for point in names(report, job, "grid")]
    return geometric_mean(each for each in ratios if each is not None)


def relative(report: Report, job: str, framework: str) -> float | None:
    """Return the geometric mean over the grid of a framework's time over ours, where both were measured."""
    each = [times(report, point, job) for point in names(report, job, "grid")]
    return geometric_mean(seconds[framework] / seconds[OURS] for seconds in each if {framework, OURS} <= seconds.keys())


def peak(report: Report) -> float | None:
    """Return the operations per second of the fastest matrix product."""
    if "peak" not in report["points"]:
        return None
    flops, rows = report["points"]["peak"]["flops"]["product"], [row for row in report["rows"] if row["job"] == "product"]
    return max((flops / row["low"] for row in rows), default=None)


def rate(report: Report, row: Row) -> float | None:
    """Return the operations per second at the median; None if matrix products are not what the job is about."""
    flops = report["points"][row["point"]]["flops"][row["job"]]
    return None if flops is None else flops / row["median"]


def compared(old: Report, new: Report) -> list[tuple[str, str, dict[str, float]]]:
    """Return point, job, and old over new medians by framework, where both reports have the same sizes. Above 1: faster now."""
    same = [name for name, point in new["points"].items() if _sizes(old["points"].get(name)) == _sizes(point)]
    result = []
    for point in same:
        for job in new["points"][point]["flops"]:
            before, now = times(old, point, job), times(new, point, job)
            if ratios := {name: before[name] / now[name] for name in now if name in before}:
                result.append((point, job, ratios))
    return result


def _sizes(point: dict[str, Any] | None) -> Any:
    return point and [list(value) if isinstance(value, tuple | list) else value for value in map(point.get, SIZES)]


SIZES = ("batch", "time", "features", "units", "form")
