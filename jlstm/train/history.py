"""Records of a training run, their JSON Lines file, and early stopping."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax

from jlstm._src import checks, serialization
from jlstm.cell import PyTree


class Record(NamedTuple):
    """Measurements at one step of a training run. A custom training loop may omit all fields but `step`.

    Attributes:
        step: Number of steps taken.
        epoch: Number of passes over the data, with a fractional part within a pass.
        train: Means since the previous record of `loss`, of `grad_norm` (norm of the whole gradient before clipping) and of the
            metrics. Also `learning_rate` of the last step if `optax.inject_hyperparams` made the optimizer, and `skipped`, the
            number of steps skipped because a value was not finite, unless it is zero.
        validation: Means of the loss and the metrics over the validation data, without dropout. Empty without such data.
        seconds: Training time since the previous record or since resuming, without validation. The first one includes
            compilation.
        examples_per_second: Training speed over that time.
    """

    step: int
    epoch: float = math.nan
    train: Mapping[str, float] = {}
    validation: Mapping[str, float] = {}
    seconds: float = math.nan
    examples_per_second: float = math.nan


History = list[Record]


def write(path: str | os.PathLike[str], history: Sequence[Record]) -> None:
    """Write records as JSON Lines, replacing the file atomically. NaN and infinity become null."""
    serialization.write(
        Path(path), "".join(json.dumps(_finite(record._asdict()), allow_nan=False) + "\n" for record in history).encode()
    )


def read(path: str | os.PathLike[str]) -> History:
    """Return the records in a file that `write` wrote. A null becomes NaN."""
    return [Record(**json.loads(line, object_hook=_with_nan)) for line in Path(path).read_text().splitlines()]


def early_stopping(
    part: Literal["train", "validation"] = "validation",
    name: str = "loss",
    *,
    patience: int = 3,
    mode: Literal["min", "max"] = "min",
) -> Callable[[Sequence[Record]], bool]:
    """Return a function of the history that is true once `patience` records in a row brought no new best value.

    Args:
        part: Which field of the records to look at.
        name: Name of the measurement in that field.
        patience: Number of records to wait for a new best value.
        mode: Whether the smallest or the largest value is best. NaN is never best.

    Returns:
        A function for the argument `stop` of `fit`. It raises ValueError if a record does not have the measurement.

    Raises:
        ValueError: `patience` is below 1, or an option is unknown.

    Examples:
        >>> from jlstm.train import Record, early_stopping
        >>> stop = early_stopping(patience=2)
        >>> history = [Record(step, step, {}, {"loss": loss}, 1.0, 1.0) for step, loss in enumerate([3, 2, 4, 2])]
        >>> stop(history[:3]), stop(history)
        (False, True)
    """
    checks.positive("patience", patience)
    checks.one_of("part", part, ("train", "validation"))
    checks.one_of("mode", mode, ("min", "max"))
    checks.text("name", name)

    def stop(history: Sequence[Record]) -> bool:
        figures = [getattr(record, part) for record in history]
        if not all(name in record_figures for record_figures in figures):
            raise ValueError(
                f"no {part} {name} was measured: "
                + ("give fit validation data" if part == "validation" else "name one of the metrics")
            )
        values = [record_figures[name] for record_figures in figures]
        return bool(values) and len(values) - 1 - best(values, mode) >= patience

    return stop


def best(values: Sequence[float], mode: Literal["min", "max"] = "min") -> int:
    """Return the index of the first best value. NaN is worse than any number."""
    sign = 1 if mode == "min" else -1
    # NaN comes last by the first entry of the key, and `min` returns the first of equal ones.
    return min(range(len(values)), key=lambda index: (math.isnan(values[index]), sign * values[index]))


def _with_nan(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in figures.items()}


def _finite(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf if math.isfinite(leaf) else None, tree)
