"""Statistics of the measured times: operations per second, ratios, means."""

import math
import statistics
from collections.abc import Iterable

from benchmarks.speed.points import Point
from benchmarks.speed.report import OURS, Report, Row


def geometric_mean(values: Iterable[float]) -> float | None:
    """Return the n-th root of the product; None without values."""
    logarithms = [math.log(value) for value in values]
    return math.exp(statistics.fmean(logarithms)) if logarithms else None


def times(report: Report, point: str, job: str) -> dict[str, float]:
    """Return median seconds by framework, in the order of the report's frameworks."""
    medians = {row.framework: row.median for row in report.rows if (row.point, row.job) == (point, job)}
    return {name: medians[name] for name in report.frameworks if name in medians}


def names(report: Report, job: str, *groups: str) -> list[str]:
    """Return the points of the groups at which a job was measured."""
    measured = {row.point for row in report.rows if row.job == job}
    return [name for name, point in report.points.items() if point.group in groups and name in measured]


def fastest_peer(report: Report, point: str, job: str) -> tuple[str, float] | None:
    """Return the fastest peer's name and median seconds; None if there is no peer."""
    peers = {name: seconds for name, seconds in times(report, point, job).items() if report.frameworks[name].peer}
    return min(peers.items(), key=lambda item: item[1]) if peers else None


def ratio(report: Report, point: str, job: str, ours: str = OURS) -> float | None:
    """Return the fastest peer's time over ours (above 1: ours is faster than all peers); None if either is missing."""
    fastest, our_seconds = fastest_peer(report, point, job), times(report, point, job).get(ours)
    return None if fastest is None or our_seconds is None else fastest[1] / our_seconds


def mean_ratio(report: Report, job: str, ours: str = OURS) -> float | None:
    """Return the geometric mean of `ratio` over the measured points of the grid."""
    ratios = [ratio(report, point, job, ours) for point in names(report, job, "grid")]
    return geometric_mean(value for value in ratios if value is not None)


def relative(report: Report, job: str, framework: str) -> float | None:
    """Return the geometric mean over the grid of a framework's time over ours, where both were measured."""
    medians = [times(report, point, job) for point in names(report, job, "grid")]
    return geometric_mean(seconds[framework] / seconds[OURS] for seconds in medians if {framework, OURS} <= seconds.keys())


def peak(report: Report) -> float | None:
    """Return the operations per second of the fastest matrix product."""
    flops = report.points["peak"].flops("product") if "peak" in report.points else None
    if flops is None:
        return None
    return max((flops / row.low for row in report.rows if row.job == "product"), default=None)


def rate(report: Report, row: Row) -> float | None:
    """Return the operations per second at the median; None if the operations of the job are not counted."""
    flops = report.points[row.point].flops(row.job)
    return None if flops is None else flops / row.median


def compared(old: Report, new: Report) -> list[tuple[str, str, dict[str, float]]]:
    """Compare two reports where both have a point of the same sizes.

    Returns:
        For each point and job, the ratios of the old medians to the new ones by framework. Above 1: the new time is shorter.
    """
    result = []
    for name, point in new.points.items():
        if name not in old.points or _sizes(old.points[name]) != _sizes(point):
            continue
        for job in point.jobs:
            old_times, new_times = times(old, name, job), times(new, name, job)
            if ratios := {
                framework: old_times[framework] / new_times[framework] for framework in new_times if framework in old_times
            }:
                result.append((name, job, ratios))
    return result


def _sizes(point: Point) -> Point:
    """Return the point without its group, which does not change what is computed."""
    return point._replace(group="")
