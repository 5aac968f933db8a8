"""Read and write reports, and make the page of a report."""

import json
from pathlib import Path

from benchmarks.speed import draw, figures, tables
from benchmarks.speed.report import Report
from jlstm._src import serialization

EXPLANATION = """\
`fastest peer` is the fastest framework, not counting this library's own backends. The last row has geometric means over the grid:
the time of each framework over that of `jlstm`, and in the last column that of the fastest peer at each point. Points outside the
grid are not part of the means.
"""
PEAK_MEMORY = """\
Peak memory is the peak of a separate process during a call, without inputs and parameters. It contains the results and all
intermediate values. The same figure for a tiny size is subtracted, so libraries and compiled programs are not part of it.
"""


def read(path: Path) -> Report:
    """Read a report.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no report of this benchmark.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: python -m benchmarks --out {path} makes it")
    content = json.loads(path.read_text(encoding="utf-8"))
    try:
        return Report.of(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no report of python -m benchmarks: name one that is") from error


def write(path: Path, report: Report) -> None:
    """Write a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    serialization.write(path, (json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n").encode())


def publish(path: Path, report: Report) -> list[Path]:
    """Write the page and the picture of a report beside it, and return their paths."""
    page, picture = path.with_suffix(".md"), path.with_suffix(".png")
    draw.save(report, picture)
    serialization.write(page, markdown(report, picture.name).encode())
    return [page, picture]


def markdown(report: Report, picture: str) -> str:
    """Return the page: where it was measured, the picture, and all tables."""
    head = f"Made by `{report.command}`; `python -m benchmarks --draw` makes it anew from the JSON file beside it."
    return "\n\n".join(["# Speed", head, *blocks(report, picture)]) + "\n"


def blocks(report: Report, picture: str) -> list[str]:
    """Return the parts of the page that a report has: where it was measured, the picture if there is one, and all tables."""
    return [
        where(report),
        *([f"![GFLOP/s of each framework by size]({picture})"] if picture else []),
        EXPLANATION.strip(),
        *([] if report.gpu else [PEAK_MEMORY.strip()]),
        *(sheet.markdown() for sheet in tables.sheets(report)),
        tables.details(report).markdown(),
        "## What the numbers are",
        "\n".join(f"- {name}: {note}" for name, note in report.notes.items()),
    ]


def where(report: Report) -> str:
    """Return a line about the origin of a report: machine, threads, peak rate and versions."""
    highest = figures.peak(report)
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    peak = "" if highest is None else f", which multiply matrices at {highest / 1e9:,.0f} GFLOP/s"
    threads = f"on {report.machine.gpu or 'the GPU'}" if report.gpu else f"{report.threads} threads"
    return f"{report.machine.processor}, {threads}{peak}, float32, {report.date[:10]}. {versions}."
