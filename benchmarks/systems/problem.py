"""What both sides are given: a folder with the problem, the initial weights, and the data in the order of training."""

import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.systems.system import SYSTEMS, System

Arrays = dict[str, np.ndarray]

FIRST = 5  # steps whose losses are compared before the clock starts


@dataclass(frozen=True)
class Problem:
    """One training run, to be done by both sides.

    Attributes:
        folder: where weights, data and results are exchanged.
        name: of the system.
        seed: of weights, order and dropout.
        more: arguments of the example beyond those of the system.
        test_batches: measure on so many batches of the test data, or on all.
        stock: train with Keras' optimizers as they are, see `benchmarks.systems.optimizers`.
    """

    folder: Path
    name: str
    seed: int
    more: Sequence[str] = ()
    test_batches: int | None = None
    stock: bool = False

    @property
    def system(self) -> System:
        """The system of that name."""
        return SYSTEMS[self.name]

    @property
    def arguments(self) -> list[str]:
        """The command line of the example."""
        own = ("--seed", str(self.seed), "--out", str(self.folder / "example"))
        return [*self.system.arguments, *self.more, *own]

    def save(self) -> None:
        """Write it into its folder, for a process of its own."""
        self.write("problem", asdict(self) | {"folder": None})

    @classmethod
    def load(cls, folder: Path) -> "Problem":
        """Read what `save` wrote."""
        return cls(**(json.loads((folder / "problem.json").read_text()) | {"folder": folder}))

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write something as JSON."""
        (self.folder / f"{name}.json").write_text(json.dumps(content, default=str))

    def read(self, name: str) -> dict[str, Any]:
        """Read what `write` wrote."""
        return json.loads((self.folder / f"{name}.json").read_text())

    def write_arrays(self, name: str, arrays: Arrays) -> None:
        """Write arrays as they are, without compression."""
        np.savez(self.folder / f"{name}.npz", allow_pickle=False, **arrays)

    def read_arrays(self, name: str) -> Arrays:
        """Read what `write_arrays` wrote."""
        with np.load(self.folder / f"{name}.npz", allow_pickle=False) as archive:
            return dict(archive)


def peak_bytes() -> int:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
