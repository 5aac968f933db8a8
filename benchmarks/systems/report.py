"""The report of a run, and the figures computed from it."""

import datetime as dt
import math
import os
import platform
import re
import statistics
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.systems.side import ENVIRONMENT
from benchmarks.systems.system import SYSTEMS

Report = dict[str, Any]
Run = dict[str, Any]

SIDES = ("jlstm", "keras")
STOCK = "keras-stock"  # Keras's own optimizers, where they differ from optax's: benchmarks/systems/optimizers.py
APART = 1e-4  # relative difference of losses: far above rounding in five steps, far below that of another learning rate

NOTES = {
    "sides": "each in a process of its own with this environment, which lets freed memory stay with the process on both sides; "
    "jlstm is the example of the repository, keras is model.fit and model.evaluate with Keras' defaults in what is not said here",
    "first_losses": "of five steps from the same weights on the same batches, taken once more afterwards with the clock running",
    "first_step_seconds": "compilation and the first of these steps",
    "seconds": "of training, without validation, checkpoints and compilation, for the number of steps",
    "peak_bytes": "ru_maxrss of the process at its end, the data set and all libraries included",
    "figure": "accuracy or perplexity on the test data, with the weights after the last step",
    "keras-stock": "Keras' own optimizers, which square the gradients of a repeated word one by one; keras adds them first",
    "load_before": "processes that wanted to run when this one began, averaged over a minute",
}


class Row(NamedTuple):
    """A system's figures for our side and the other.

    Attributes:
        title: the system, and how long it was trained.
        figures: accuracy or perplexity.
        seconds: seconds per epoch.
        first_step: seconds of the first step, including compilation.
        memory: peak memory in bytes.
        apart: the largest relative difference between the losses of the first steps; None if they depend on chance.
        stock: the figure of Keras with its own optimizers, if it was measured.
    """

    title: str
    figures: tuple[str, str]
    seconds: tuple[float, float]
    first_step: tuple[float, float]
    memory: tuple[int, int]
    apart: float | None
    stock: str | None

    @property
    def ratio(self) -> float:
        """The other side's seconds per epoch over ours."""
        return self.seconds[1] / self.seconds[0]


def begin(command: str) -> Report:
    """Return a report without runs."""
    return {
        "command": command,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "environment": ENVIRONMENT,
        "notes": NOTES,
        "runs": [],
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute."""
    names = ("jlstm", "jax", "jaxlib", "flax", "optax", "numpy", "tensorflow", "keras")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def machine() -> dict[str, Any]:
    """Return the system, processor, number of cores and memory of this machine."""
    information = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.*)$", information.read_text(), re.MULTILINE) if information.exists() else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"system": platform.platform(), "processor": (models or [platform.machine()])[0], "cores": cores, "bytes": memory}


def rows(report: Report) -> list[Row]:
    """Return one row for each system that was run on both sides, in the order of the table of systems."""
    runs = {name: {side: of(report, name, side) for side in (*SIDES, STOCK)} for name in SYSTEMS}
    return [_row(name, sides) for name, sides in runs.items() if all(sides[side] for side in SIDES)]


def of(report: Report, name: str, side: str) -> list[Run]:
    """Return the runs of one side of a system."""
    return [run for run in report["runs"] if (run["system"], run["side"]) == (name, side)]


def seconds_an_epoch(run: Run) -> float:
    """Return the training seconds of a whole epoch, even if the run had fewer steps."""
    return run["seconds"] / run["steps"] * run["steps_an_epoch"]


def _row(name: str, runs: dict[str, list[Run]]) -> Row:
    sides = [runs[side] for side in SIDES]

    def both(measure: Callable[[list[Run]], Any]) -> Any:
        return tuple(measure(side) for side in sides)

    return Row(
        f"{sides[0][0]['title']}, {_amount(sides[0][0])}",
        both(_figure),
        both(lambda side: statistics.median(map(seconds_an_epoch, side))),
        both(lambda side: statistics.median(run["first_step_seconds"] for run in side)),
        both(lambda side: max(run["peak_bytes"] for run in side)),
        _apart(*sides) if SYSTEMS[name].exact else None,
        _figure(runs[STOCK]) if runs[STOCK] else None,
    )


def _amount(run: Run) -> str:
    epochs, rest = divmod(run["steps"], run["steps_an_epoch"])
    return f"{run['steps']:,} steps" if rest else "1 epoch" if epochs == 1 else f"{epochs} epochs"


def _figure(runs: Sequence[Run]) -> str:
    values, digits = [run["figure"] for run in runs], 4 if runs[0]["metric"] == "accuracy" else 1
    error = f" ± {statistics.stdev(values) / math.sqrt(len(values)):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{error}"


def _apart(ours: Sequence[Run], theirs: Sequence[Run]) -> float:
    first = {run["seed"]: run["first_losses"] for run in ours}
    loss_pairs = [(first[run["seed"]], run["first_losses"]) for run in theirs if run["seed"] in first]
    # Not strict: the Keras side stops at the end of an epoch that is shorter than the compared steps.
    pairs = [pair for losses in loss_pairs for pair in zip(*losses, strict=False)]
    return max(abs(ours_loss - theirs_loss) / abs(theirs_loss) for ours_loss, theirs_loss in pairs)
