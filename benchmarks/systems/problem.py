"""What both sides receive: a folder with the problem, the initial weights, and the data in training order."""

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
    """One training run, done by both sides.

    Attributes:
        folder: where weights, data and results are exchanged.
        name: the system's name.
        seed: seed of weights, order and dropout.
        more: additional arguments of the example.
        test_batches: number of test batches to measure on; None for all.
        stock: whether to train with Keras's own optimizers, see `benchmarks.systems.optimizers`.
    """

    folder: Path
    name: str
    seed: int
    more: Sequence[str] = ()
    test_batches: int | None = None
    stock: bool = False

    @property
    def system(self) -> System:
        """The entry of `SYSTEMS` that `name` names."""
        return SYSTEMS[self.name]

    @property
    def arguments(self) -> list[str]:
        """The command-line arguments of the example."""
        own = ("--seed", str(self.seed), "--out", str(self.folder / "example"))
        return [*self.system.arguments, *self.more, *own]

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


def peak_bytes() -> int:
    """Return the peak memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
