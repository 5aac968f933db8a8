"""The records of a report, as the JSON file holds them."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

from benchmarks.machine import Machine
from benchmarks.speed.points import Point

OURS = "jlstm"  # the backend that a user gets


class Plan(NamedTuple):
    """How much to measure.

    Attributes:
        rounds: number of turns of each framework.
        seconds: length of a turn.
        calls: the least number of calls in a turn.
        together: whether all frameworks compile a job at the same time, which is shorter if there are many cores.
    """

    rounds: int
    seconds: float
    calls: int = 3
    together: bool = False


class FrameworkInfo(NamedTuple):
    """A framework that was measured.

    Attributes:
        version: version of its package.
        ours: whether it is this library.
        peer: whether it is compared with this library.
    """

    version: str
    ours: bool
    peer: bool


class Round(NamedTuple):
    """One turn of a framework.

    Attributes:
        calls: number of timed calls.
        median: median seconds of a call.
        lowest: least seconds of a call.
    """

    calls: int
    median: float
    lowest: float


class Row(NamedTuple):
    """The times of one job of one framework at one point.

    Attributes:
        point: name of the point.
        job: name of the job.
        framework: name of the framework.
        build_seconds: time to make the parameters and the job.
        first_seconds: time of the first call, including compilation.
        values: number of numbers in the result.
        rounds: the turns.
        load_before: load average over one minute before the job.
    """

    point: str
    job: str
    framework: str
    build_seconds: float
    first_seconds: float
    values: int
    rounds: list[Round]
    load_before: float

    @property
    def median(self) -> float:
        """The median of the rounds' medians, in seconds."""
        return statistics.median(turn.median for turn in self.rounds)

    @property
    def low(self) -> float:
        """The lowest of the rounds' medians, in seconds."""
        return min(turn.median for turn in self.rounds)

    @property
    def high(self) -> float:
        """The highest of the rounds' medians, in seconds."""
        return max(turn.median for turn in self.rounds)

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Return the row that an entry of the JSON file describes."""
        values = {name: entry[name] for name in cls._fields}
        return cls(**values | {"rounds": [Round(**turn) for turn in entry["rounds"]]})

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the JSON file, with the summary of the rounds."""
        values = self._asdict() | {"rounds": [turn._asdict() for turn in self.rounds]}
        load = values.pop("load_before")
        return values | {"median": self.median, "low": self.low, "high": self.high, "load_before": load}


@dataclass(frozen=True)
class Report:
    """All that is written to the JSON file. A run of the benchmark adds to the last six fields.

    Attributes:
        command: command line of the benchmark.
        date: start of the benchmark, UTC, in ISO format.
        machine: the machine.
        versions: versions of Python and of the packages.
        threads: number of threads of each framework.
        gpu: whether the frameworks ran on the GPU.
        environment: environment variables of all processes.
        plan: how much was measured.
        load_before: load average over one minute before the benchmark.
        notes: what the figures mean.
        frameworks: the frameworks by name, in the order of the tables.
        points: the points by name, in the order in which they were measured.
        rows: the times.
        memory: peak memory in bytes by job, framework and point.
        accuracy: the largest error against float64, relative to the largest value, by job, framework and point; only on a GPU.
        errors: one sentence for each failure.
    """

    command: str
    date: str
    machine: Machine
    versions: dict[str, str]
    threads: int
    gpu: bool
    environment: dict[str, str]
    plan: Plan
    load_before: float
    notes: dict[str, str]
    frameworks: dict[str, FrameworkInfo]
    points: dict[str, Point] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    memory: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    accuracy: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Return the report that a JSON file holds."""
        records = {
            "machine": Machine(**content["machine"]),
            "plan": Plan(**content["plan"]),
            "frameworks": {name: FrameworkInfo(**info) for name, info in content["frameworks"].items()},
            "points": {name: Point.of(point) for name, point in content["points"].items()},
            "rows": [Row.of(entry) for entry in content["rows"]],
        }
        return cls(**dict(content) | records)

    def to_json(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        records = {
            "machine": self.machine._asdict(),
            "plan": self.plan._asdict(),
            "frameworks": {name: info._asdict() for name, info in self.frameworks.items()},
            "points": {name: point.to_json() for name, point in self.points.items()},
            "rows": [row.to_json() for row in self.rows],
        }
        return {item.name: getattr(self, item.name) for item in fields(self)} | records
