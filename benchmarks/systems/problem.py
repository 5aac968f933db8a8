"""The problem that both sides receive, and the result that each returns.

The folder of a problem holds its description, the initial weights, and the data in the order of training.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.systems.system import SYSTEMS, System

Arrays = dict[str, np.ndarray]

FIRST = 5  # number of steps whose losses are compared, before the training that is timed


class Result(NamedTuple):
    """The measurements of one side.

    Attributes:
        first_losses: losses of the first steps, which are trained once more afterwards.
        first_step_seconds: seconds of the first step, including compilation.
        losses: training losses: one per log record of the example, or per epoch of Keras.
        seconds: training time, without compilation, validation and checkpoints.
        seconds_of_each: the parts of `seconds`, one per entry of `losses`.
        steps: number of training steps.
        steps_an_epoch: number of steps in a whole epoch.
        steps_per_call: number of steps per call of the compiled function.
        figure: accuracy or perplexity on the test data.
        test_loss: loss on the test data.
        peak_bytes: peak memory of the process.
        jit_compile: whether Keras compiles with XLA; None for our side.
        threads: number of TensorFlow's threads per operation; None for our side.
    """

    first_losses: Sequence[float]
    first_step_seconds: float
    losses: Sequence[float]
    seconds: float
    seconds_of_each: Sequence[float]
    steps: int
    steps_an_epoch: int
    steps_per_call: int
    figure: float
    test_loss: float
    peak_bytes: int
    jit_compile: bool | None = None
    threads: int | str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the measurements as a dict, without those that this side does not have."""
        return {name: value for name, value in self._asdict().items() if value is not None}


@dataclass(frozen=True)
class Problem:
    """One training run, done by both sides.

    Attributes:
        folder: where weights, data and results are exchanged.
        name: the system's name.
        seed: seed of weights, order and dropout.
        extra_arguments: additional command-line arguments of the example.
        test_batches: number of test batches to measure on; None for all.
        stock: whether to train with Keras's own optimizers, see `benchmarks.systems.optimizers`.
    """

    folder: Path
    name: str
    seed: int
    extra_arguments: Sequence[str] = ()
    test_batches: int | None = None
    stock: bool = False

    @property
    def system(self) -> System:
        """The entry of `SYSTEMS` that `name` names."""
        return SYSTEMS[self.name]

    @property
    def arguments(self) -> list[str]:
        """The command-line arguments of the example."""
        run_arguments = ("--seed", str(self.seed), "--out", str(self.folder / "example"))
        return [*self.system.arguments, *self.extra_arguments, *run_arguments]

    def save(self) -> None:
        """Write the problem into its folder, for another process."""
        self.write("problem", asdict(self) | {"folder": None})

    @classmethod
    def load(cls, folder: Path) -> "Problem":
        """Read what `save` wrote."""
        return cls(**(json.loads((folder / "problem.json").read_text()) | {"folder": folder}))

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a dict into the problem's folder, as `<name>.json`."""
        (self.folder / f"{name}.json").write_text(json.dumps(content, default=str))

    def read(self, name: str) -> dict[str, Any]:
        """Read what `write` wrote."""
        return json.loads((self.folder / f"{name}.json").read_text())

    def write_arrays(self, name: str, arrays: Arrays) -> None:
        """Write arrays without compression."""
        np.savez(self.folder / f"{name}.npz", allow_pickle=False, **arrays)

    def read_arrays(self, name: str) -> Arrays:
        """Read what `write_arrays` wrote."""
        with np.load(self.folder / f"{name}.npz", allow_pickle=False) as archive:
            return dict(archive)
