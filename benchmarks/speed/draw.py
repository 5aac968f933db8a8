"""Draw the picture of a report: operations per second at each size, and the cost of long sequences."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed import figures
from benchmarks.speed.report import Report, Row
from jlstm._src.packages import needed_by
from jlstm.plot import COLORS
from jlstm.plot.axes import GRAY, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, *PEER_COLORS = COLORS  # blue is for this library
MARKERS, LINES = "osD^vPX<>*", ("-", "--", ":", "-.")
TITLES = {"forward": "forward", "training": "forward and backward"}


def save(report: Report, path: Path) -> None:
    """Draw a report into a file. Each framework looks the same in every panel.

    Raises:
        ImportError: matplotlib is not installed.
    """
    with needed_by("drawing", "jlstm[plot]"):
        from matplotlib.figure import Figure
    panels = [(_sizes, job) for job in TITLES if figures.names(report, job, "grid")]
    panels += [(panel, job) for panel in (_steps, _first) for job in TITLES if figures.names(report, job, "long")]
    rows = max(1, (len(panels) + 1) // 2)
    figure = Figure(figsize=(12, 4.6 * rows), layout="constrained")
    for number, (panel, job) in enumerate(panels):
        ax = figure.add_subplot(rows, min(2, len(panels)), number + 1)
        ax.set(xscale="log", yscale="log")
        panel(report, job, ax)
        plain(ax)
    handles = {label: handle for ax in figure.axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=120)


def style(report: Report, name: str) -> dict[str, Any]:
    """Return matplotlib's options for the line of a framework: ours are thick and blue, peers differ in color and marker."""
    ours = [framework for framework, info in report.frameworks.items() if info.ours]
    if name in ours:
        place = ours.index(name)
        return {"color": BLUE, "linestyle": LINES[place % 4], "marker": MARKERS[place % 10], "linewidth": 2.6, "zorder": 3}
    place = [framework for framework in report.frameworks if framework not in ours].index(name)
    line = LINES[place // len(PEER_COLORS) % len(LINES)]
    return {
        "color": PEER_COLORS[place % len(PEER_COLORS)],
        "linestyle": line,
        "marker": MARKERS[-1 - place % 10],  # from the end, so that peers do not share the first markers with ours
        "linewidth": 1.2,
    }


def _sizes(report: Report, job: str, ax: "Axes") -> None:
    points = sorted(figures.names(report, job, "grid"), key=lambda name: report.points[name].flops(job) or 0)
    ax.set_xscale("linear")  # every size has a place of its own: two sizes may cost the same
    _lines(report, job, points, ax, lambda row: (points.index(row.point), (figures.rate(report, row) or 0) / 1e9))
    if highest := figures.peak(report):
        ax.axhline(highest / 1e9, color=GRAY, linestyle="--", linewidth=1, label="matrix product")
    ax.set(title=TITLES[job], xlabel="batch × time × features × units, by operations", ylabel="GFLOP/s")
    ax.set_xticks(range(len(points)), [name.replace("x", "×") for name in points], rotation=35, ha="right", fontsize=8)


def _steps(report: Report, job: str, ax: "Axes") -> None:
    points = figures.names(report, job, "long")
    _lines(report, job, points, ax, lambda row: (report.points[row.point].time, row.median / report.points[row.point].time * 1e6))
    ax.set(title=f"long sequences, {TITLES[job]}", xlabel="time", ylabel="µs a step")


def _first(report: Report, job: str, ax: "Axes") -> None:
    points = figures.names(report, job, "long")
    _lines(report, job, points, ax, lambda row: (report.points[row.point].time, row.first_seconds))
    ax.set(title=f"compilation and first call, {TITLES[job]}", xlabel="time", ylabel="seconds")


def _lines(report: Report, job: str, points: list[str], ax: "Axes", position: Callable[[Row], tuple[float, float]]) -> None:
    """Draw one line per framework; `position` returns x and y of a row."""
    rows = {(row.framework, row.point): row for row in report.rows if row.job == job}
    for name in report.frameworks:
        positions = [position(rows[name, point]) for point in points if (name, point) in rows]
        if positions:
            ax.plot(*zip(*positions, strict=True), label=name, markersize=5, **style(report, name))
