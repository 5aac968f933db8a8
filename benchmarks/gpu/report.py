"""The results of `python -m benchmarks.gpu`: the JSON file, and the page and the picture that are made of it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from benchmarks.gpu.checks import Outcome
from benchmarks.speed import draw, figures, page, tables
from benchmarks.speed.report import OURS, Report
from jlstm._src import serialization

# Pairs of frameworks whose times are compared: the first one's time over that of the second one.
RATIOS = (
    ("torch", OURS),
    ("torch, no TF32", "jlstm, no TF32"),
    ("torch bfloat16", "jlstm bfloat16"),
    ("torch float16", "jlstm float16"),
    ("jax-cudnn", OURS),
    ("flax-linen", OURS),
    ("jlstm fused", OURS),
    ("jlstm scan", OURS),
)
BEST_OF_XLA = "the better of fused and scan"
BESIDES = ("ragged", "bidirectional", "gru")  # points whose ratios are in the table too


@dataclass
class GpuReport:
    """All parts of a run.

    Attributes:
        build: how the host library of the kernel was made.
        packages: versions of CUDA's packages for Python.
        checks: the outcomes of the checks.
        sanitizer: the outcomes of compute-sanitizer.
        speed: times, memory and errors; None until they are measured.
        omitted: what was left out, and why, a sentence each.
    """

    build: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    checks: list[Outcome] = field(default_factory=list)
    sanitizer: list[Outcome] = field(default_factory=list)
    speed: Report | None = None
    omitted: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[Outcome]:
        """The outcomes of the checks of correctness that did not pass."""
        return [outcome for outcome in (*self.checks, *self.sanitizer) if not outcome.passed]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the report that a JSON file holds."""
        content = json.loads(path.read_text(encoding="utf-8"))
        for name in ("checks", "sanitizer"):
            content[name] = [Outcome(**outcome) for outcome in content[name]]
        return cls(**content | {"speed": content["speed"] and Report.of(content["speed"])})

    def write(self, path: Path) -> None:
        """Write all outcomes and measurements to the JSON file."""
        content = {
            **vars(self),
            "checks": [outcome._asdict() for outcome in self.checks],
            "sanitizer": [outcome._asdict() for outcome in self.sanitizer],
            "speed": self.speed and self.speed.to_json(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        serialization.write(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())

    def publish(self, path: Path) -> list[Path]:
        """Write the JSON file, the page and, if matplotlib is installed, the picture. Return their paths."""
        self.write(path)
        paths = [path, path.with_suffix(".md")]
        if self.speed and self.speed.rows:
            try:
                draw.save(self.speed, picture := path.with_suffix(".png"))
                paths.append(picture)
            except ImportError as missing:
                self.omitted.append(f"the picture: {missing}")
        serialization.write(paths[1], self.markdown(*(picture.name for picture in paths[2:])).encode())
        return paths

    def markdown(self, picture: str = "") -> str:
        """Return the Markdown page with the checks and the measured times."""
        passed = sum(outcome.passed for outcome in self.checks)
        blocks = ["# The GPU kernel on a GPU", f"{passed} of {len(self.checks)} checks passed. {self.build.capitalize()}."]
        if self.packages:
            blocks.append(", ".join(f"{name} {version}" for name, version in self.packages.items()) + ".")
        blocks += [f"Left out: {sentence}." for sentence in self.omitted]
        blocks += [f"**{outcome.name}** fails: {outcome.line}" for outcome in self.failures]
        if self.speed:
            blocks += [sheet.markdown() for sheet in [ratios(self.speed)] if len(sheet.rows) > 1]
            blocks += [f"Error: {error}" for error in self.speed.errors]
            blocks += page.blocks(self.speed, picture)
        rows = [[outcome.name, outcome.line, f"{outcome.seconds:.1f}"] for outcome in (*self.checks, *self.sanitizer)]
        blocks.append(tables.Sheet("Checks", [["check", "result", "seconds"], *rows]).markdown())
        return "\n\n".join(blocks) + "\n"


def ratios(report: Report) -> tables.Sheet:
    """Return a table that compares frameworks over the grid: the lowest ratio with its point, and the geometric mean."""
    rows = [["time over time", "job", "lowest", "at", "geometric mean", *BESIDES]]
    for slower, faster in (*RATIOS, (BEST_OF_XLA, OURS)):
        for job in ("forward", "training"):
            by_point = {point: _ratio(report, point, job, slower, faster) for point in report.points}
            grid = {point: by_point[point] for point in figures.names(report, job, "grid")}
            grid_ratios = {point: ratio for point, ratio in grid.items() if ratio is not None}
            if grid_ratios:
                lowest = min(grid_ratios, key=grid_ratios.__getitem__)
                mean = figures.geometric_mean(grid_ratios.values())
                cells = [_two(grid_ratios[lowest]), lowest, _two(mean), *(_two(by_point.get(name)) for name in BESIDES)]
                rows.append([f"{slower} / {faster}", job, *cells])
    return tables.Sheet("Times over times: above 1, the second one is faster", rows)


def _two(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _ratio(report: Report, point: str, job: str, slower: str, faster: str) -> float | None:
    times = figures.times(report, point, job)
    best = [times[name] for name in ("jlstm fused", "jlstm scan") if name in times]
    if best:
        times[BEST_OF_XLA] = min(best)
    return times[slower] / times[faster] if {slower, faster} <= times.keys() else None
