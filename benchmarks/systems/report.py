"""The report of a run, and the figures computed from it."""

import datetime as dt
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self, TypeVar

from benchmarks.machine import ENVIRONMENT, Machine, machine, versions
from benchmarks.systems.problem import Result
from benchmarks.systems.system import SYSTEMS

T = TypeVar("T")

SIDES = ("jlstm", "keras")
STOCK = "keras-stock"  # Keras's own optimizers, where they differ from optax's: benchmarks/systems/optimizers.py
MAX_LOSS_DIFFERENCE = 1e-4  # relative: far above rounding in five steps, far below the effect of another learning rate

NOTES = {
    "sides": "each side has a process of its own with this environment, in which freed memory stays with the process; jlstm is "
    "the example of the repository, keras is model.fit and model.evaluate with Keras's defaults unless stated otherwise",
    "first_losses": "losses of five steps from the same weights on the same batches; they are then trained again and timed",
    "first_step_seconds": "time of compilation and of the first of these steps",
    "seconds": "time of training for the number of steps, without validation, checkpoints and compilation",
    "peak_bytes": "ru_maxrss of the process at its end, with the data set and all libraries",
    "figure": "accuracy or perplexity on the test data, with the weights after the last step",
    "keras-stock": "Keras's own optimizers, which square the gradients of a repeated word one by one; keras sums them first",
    "load_before": "number of processes ready to run before this run, averaged over a minute",
}


class Run(NamedTuple):
    """One training run of one side.

    Attributes:
        system: name of the system.
        title: title of the system.
        metric: "accuracy" or "perplexity".
        seed: seed of the run.
        side: one of `SIDES`, or `STOCK`.
        example: command line that trains the same system by hand.
        result: the measurements.
        load_before: load average over one minute before the run.
    """

    system: str
    title: str
    metric: str
    seed: int
    side: str
    example: str
    result: Result
    load_before: float

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Return the run that an entry of the JSON file describes."""
        result = Result(**{name: entry[name] for name in Result._fields if name in entry})
        return cls(**{name: entry[name] for name in cls._fields if name != "result"}, result=result)

    @property
    def seconds_an_epoch(self) -> float:
        """The training seconds of a whole epoch, even if the run had fewer steps."""
        return self.result.seconds / self.result.steps * self.result.steps_an_epoch

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the JSON file: the fields of the run and of its result, side by side."""
        fields = self._asdict()
        del fields["result"], fields["load_before"]
        return fields | self.result.to_json() | {"load_before": self.load_before}


@dataclass(frozen=True)
class Report:
    """All that is written to the JSON file.

    Attributes:
        command: command line of the benchmark.
        date: start of the benchmark, UTC, in ISO format.
        machine: the machine.
        versions: versions of Python and of the packages that compute.
        environment: environment variables of both sides.
        notes: what the figures mean.
        runs: the runs, in the order in which they were done; a benchmark appends to it.
    """

    command: str
    date: str
    machine: Machine
    versions: dict[str, str]
    environment: dict[str, str]
    notes: dict[str, str]
    runs: list[Run] = field(default_factory=list)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Return the report that a JSON file holds."""
        runs = [Run.of(entry) for entry in content["runs"]]
        return cls(**dict(content) | {"machine": Machine(**content["machine"]), "runs": runs})

    def to_json(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        return asdict(self) | {"machine": self.machine._asdict(), "runs": [run.to_json() for run in self.runs]}


class Row(NamedTuple):
    """A row of the table: the figures of one system, for our side and for Keras.

    Attributes:
        title: the system, and how long it was trained.
        figures: accuracy or perplexity.
        seconds: seconds per epoch.
        first_step: seconds of the first step, including compilation.
        memory: peak memory in bytes.
        loss_difference: the largest relative difference between the losses of the first steps; None if they depend on chance.
        stock: the figure of Keras with its own optimizers, if it was measured.
    """

    title: str
    figures: tuple[str, str]
    seconds: tuple[float, float]
    first_step: tuple[float, float]
    memory: tuple[int, int]
    loss_difference: float | None
    stock: str | None

    @property
    def ratio(self) -> float:
        """Keras's seconds per epoch over ours."""
        return self.seconds[1] / self.seconds[0]


def begin(command: str) -> Report:
    """Return a report without runs."""
    date = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return Report(command, date, machine(), versions(), ENVIRONMENT, NOTES)


def rows(report: Report) -> list[Row]:
    """Return one row for each system that was run on both sides, in the order of the table of systems."""
    runs = {name: {side: runs_of(report, name, side) for side in (*SIDES, STOCK)} for name in SYSTEMS}
    return [_row(name, sides) for name, sides in runs.items() if all(sides[side] for side in SIDES)]


def runs_of(report: Report, name: str, side: str) -> list[Run]:
    """Return the runs of one side of a system."""
    return [run for run in report.runs if (run.system, run.side) == (name, side)]


def _row(name: str, runs: dict[str, list[Run]]) -> Row:
    ours, keras = (runs[side] for side in SIDES)

    def per_side(measure: Callable[[list[Run]], T]) -> tuple[T, T]:
        return measure(ours), measure(keras)

    return Row(
        f"{ours[0].title}, {_duration(ours[0].result)}",
        per_side(_figure),
        per_side(lambda side: statistics.median(run.seconds_an_epoch for run in side)),
        per_side(lambda side: statistics.median(run.result.first_step_seconds for run in side)),
        per_side(lambda side: max(run.result.peak_bytes for run in side)),
        _loss_difference(ours, keras) if SYSTEMS[name].exact else None,
        _figure(runs[STOCK]) if runs[STOCK] else None,
    )


def _duration(result: Result) -> str:
    epochs, remaining_steps = divmod(result.steps, result.steps_an_epoch)
    return f"{result.steps:,} steps" if remaining_steps else "1 epoch" if epochs == 1 else f"{epochs} epochs"


def _figure(runs: Sequence[Run]) -> str:
    """Return the mean over the seeds and, if there are several, its standard error."""
    values, digits = [run.result.figure for run in runs], 4 if runs[0].metric == "accuracy" else 1
    error = f" ± {statistics.stdev(values) / math.sqrt(len(values)):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{error}"


def _loss_difference(ours: Sequence[Run], keras: Sequence[Run]) -> float:
    """Return the largest relative difference between the first losses of runs with the same seed."""
    our_losses = {run.seed: run.result.first_losses for run in ours}
    loss_pairs = [(our_losses[run.seed], run.result.first_losses) for run in keras if run.seed in our_losses]
    # Not strict: the Keras side stops at the end of an epoch that is shorter than the compared steps.
    pairs = [pair for losses in loss_pairs for pair in zip(*losses, strict=False)]
    return max(abs(our_loss - keras_loss) / abs(keras_loss) for our_loss, keras_loss in pairs)
