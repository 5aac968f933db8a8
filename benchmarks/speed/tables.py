"""Tables of a report, for a terminal and as Markdown."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.speed import figures
from benchmarks.speed.report import OURS, Report

if TYPE_CHECKING:
    from rich.table import Table

Format = Callable[[float], str]


class Sheet(NamedTuple):
    """A table of strings whose first row is the header."""

    title: str
    rows: list[list[str]]

    def terminal(self) -> "Table":
        """Return the table for a terminal.

        Raises:
            ImportError: rich is not installed.
        """
        from rich.table import Table

        table = Table(title=self.title, title_justify="left", padding=(0, 0, 0, 1))
        for number, head in enumerate(self.rows[0]):
            table.add_column(head.replace(" ", "\n") if number else head, justify="right" if number else "left", no_wrap=True)
        for row in self.rows[1:]:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Return the table as Markdown."""
        head, *rows = (f"| {' | '.join(row)} |" for row in self.rows)
        line = "|---" + "|---:" * (len(self.rows[0]) - 1) + "|"
        return "\n".join((f"## {self.title}", "", head, line, *rows))


def sheets(report: Report) -> list[Sheet]:
    """Return the tables printed after a run: times by point and framework, single steps, long sequences; empty ones left out."""
    tables = [
        _times(report, "forward", "Forward, milliseconds"),
        _times(report, "training", "Forward and backward, milliseconds"),
        _step(report),
        _memory(report, "forward", "Peak memory, forward, MB"),
        _memory(report, "training", "Peak memory, forward and backward, MB"),
        _accuracy(report, "forward", "Error against float64, outputs"),
        _accuracy(report, "training", "Error against float64, gradients"),
        *(_long(report, job) for job in ("forward", "training")),
    ]
    return [sheet for sheet in tables if len(sheet.rows) > 1]


def details(report: Report) -> Sheet:
    """Return a table with one row for each measurement."""
    highest = figures.peak(report)
    rows = [["point", "job", "framework", "ms", "low–high", "GFLOP/s", "of the peak", "first call, s"]]
    for row in report.rows:
        rate = figures.rate(report, row)
        spread = f"{_three(row.low * 1e3)}–{_three(row.high * 1e3)}"
        share = "" if rate is None or highest is None else f"{rate / highest:.1%}"
        cells = [row.point, row.job, row.framework, _three(row.median * 1e3), spread]
        rows.append([*cells, "" if rate is None else _three(rate / 1e9), share, f"{row.first_seconds:.2f}"])
    return Sheet("All that was measured", rows)


def comparison(old: Report, new: Report) -> Sheet:
    """Return old times over new ones, and their geometric mean over the grid."""
    comparisons = figures.compared(old, new)
    columns = [name for name in new.frameworks if any(name in ratios for _, _, ratios in comparisons)]
    rows = [["old / new", *columns]]
    rows += [[f"{point} {job}", *_cells(columns, ratios, _two)] for point, job, ratios in comparisons]
    for job in ("forward", "training"):
        grid = [ratios for point, name, ratios in comparisons if name == job and new.points[point].group == "grid"]
        means = {name: figures.geometric_mean(ratios[name] for ratios in grid if name in ratios) for name in columns}
        if grid:
            rows.append([f"geometric mean, {job}", *_cells(columns, means, _two)])
    return Sheet(f"Times of {old.date[:10]} over times of {new.date[:10]}: above 1 is faster now", rows)


def _times(report: Report, job: str, title: str) -> Sheet:
    points = figures.names(report, job, "grid", "besides")
    columns = _columns(report, points, job)
    rows = [["batch × time × features × units", *columns, "fastest peer", "its time / ours"]]
    for point in points:
        times, fastest = figures.times(report, point, job), figures.fastest_peer(report, point, job)
        ratio = figures.ratio(report, point, job)
        best = ["", ""] if fastest is None or ratio is None else [fastest[0], _two(ratio)]
        rows.append([_title(report, point), *_cells(columns, times, lambda seconds: _three(seconds * 1e3)), *best])
    grid = {name: figures.relative(report, job, name) for name in columns}
    if any(grid.values()):
        mean = figures.mean_ratio(report, job)
        rows.append([f"grid, over {OURS}'s time", *_cells(columns, grid, _two), "", "" if mean is None else _two(mean)])
    return Sheet(title, rows)


def _step(report: Report) -> Sheet:
    rows = [["one step at a time, features × units", "framework", "µs", "low–high", "/ an empty call"]]
    for row in report.rows:
        if row.job in ("step", "empty"):
            point = report.points[row.point]
            empty = figures.times(report, row.point, "empty").get(OURS)
            name = "an empty call" if row.job == "empty" else row.framework
            spread = f"{_three(row.low * 1e6)}–{_three(row.high * 1e6)}"
            share = "" if empty is None else _two(row.median / empty)
            rows.append([f"{point.features}×{point.units[0]}", name, _three(row.median * 1e6), spread, share])
    return Sheet("One step, batch 1", rows)


def _memory(report: Report, job: str, title: str) -> Sheet:
    return _by_framework(report, report.memory.get(job, {}), title, lambda bytes_: f"{bytes_ / 1e6:.1f}")


def _accuracy(report: Report, job: str, title: str) -> Sheet:
    return _by_framework(report, report.accuracy.get(job, {}), title, lambda error: f"{error:.1e}")


def _by_framework(report: Report, values: dict[str, dict[str, Any]], title: str, form: Format) -> Sheet:
    columns = [name for name in report.frameworks if name in values]
    rows = [["batch × time × features × units", *columns]]
    for point in report.points:
        point_values = {name: values[name][point] for name in columns if point in values[name]}
        if point_values:
            rows.append([_title(report, point), *_cells(columns, point_values, form)])
    return Sheet(title, rows)


def _long(report: Report, job: str) -> Sheet:
    points = figures.names(report, job, "long")
    columns = _columns(report, points, job)
    rows = [["time", *(f"{name}, {unit}" for unit in ("µs a step", "first call, s") for name in columns)]]
    for point in points:
        time = report.points[point].time
        first_calls = {row.framework: row.first_seconds for row in report.rows if (row.point, row.job) == (point, job)}
        step_times = {name: seconds / time * 1e6 for name, seconds in figures.times(report, point, job).items()}
        rows.append([f"{time:,}", *_cells(columns, step_times, _three), *_cells(columns, first_calls, _two)])
    return Sheet(f"Long sequences, {job}", rows)


def _columns(report: Report, points: Iterable[str], job: str) -> list[str]:
    """Return the frameworks that have a time at any of the points."""
    times = [figures.times(report, point, job) for point in points]
    return [name for name in report.frameworks if any(name in medians for medians in times)]


def _cells(columns: list[str], values: dict[str, Any], form: Format) -> list[str]:
    return ["" if values.get(name) is None else form(values[name]) for name in columns]


def _title(report: Report, name: str) -> str:
    point = report.points[name]
    sizes = "×".join(map(str, (point.batch, point.time, point.features, "+".join(map(str, point.units)))))
    return sizes if point.group == "grid" else f"{sizes}, {name}"


def _two(value: float) -> str:
    return f"{value:.2f}"


def _three(value: float) -> str:
    """Format with three significant digits and without exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"
