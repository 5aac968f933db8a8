"""What was measured during training: records, as lines of JSON and as a reason to stop."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax

from jlstm import checks, io
from jlstm.cell import PyTree


class Record(NamedTuple):
    """One moment of a training run. A loop of your own may leave out what it does not measure.

    Attributes:
        step: steps taken so far.
        epoch: passes over the data so far, a fraction within one.
        train: means since the record before: `loss`, `grad_norm` (of the whole gradient, before the optimizer clips it) and the
            metrics; the last step's `learning_rate`, if the optimizer is made by `optax.inject_hyperparams`; and `skipped`, the
            number of steps that were left out because something was not finite, if there were any.
        validation: the same without dropout and `grad_norm`, over the validation data; empty without such data.
        seconds: of training since the record before, or since the run was started again, without validation; the first time
            includes compilation.
        examples_per_second: in that time.
    """

    step: int
    epoch: float = math.nan
    train: Mapping[str, float] = {}
    validation: Mapping[str, float] = {}
    seconds: float = math.nan
    examples_per_second: float = math.nan


History = list[Record]


def write(path: str | os.PathLike[str], history: Sequence[Record]) -> None:
    """Write a history as JSON Lines, one record a line, beside the file first and then renamed; NaN and infinity become null."""
    io.write(Path(path), "".join(json.dumps(_finite(record._asdict()), allow_nan=False) + "\n" for record in history).encode())


def read(path: str | os.PathLike[str]) -> History:
    """Read what `write` wrote."""
    return [Record(**json.loads(line, object_hook=_with_nan)) for line in Path(path).read_text().splitlines()]


def early_stopping(
    part: Literal["train", "validation"] = "validation",
    name: str = "loss",
    *,
    patience: int = 3,
    mode: Literal["min", "max"] = "min",
) -> Callable[[Sequence[Record]], bool]:
    """Return a function of the history that is true once `patience` records in a row brought no new best; NaN is never best.

    Raises:
        ValueError: `patience` below 1; of the function: the records have no such figure.

    Examples:
        >>> from jlstm.train import Record, early_stopping
        >>> stop = early_stopping(patience=2)
        >>> history = [Record(step, step, {}, {"loss": loss}, 1.0, 1.0) for step, loss in enumerate([3, 2, 4, 2])]
        >>> stop(history[:3]), stop(history)
        (False, True)
    """
    checks.positive("patience", patience)

    def stop(history: Sequence[Record]) -> bool:
        figures = [getattr(record, part) for record in history]
        if not all(name in each for each in figures):
            raise ValueError(
                f"no {part} {name} was measured: "
                + ("give fit validation data" if part == "validation" else "name one of the metrics")
            )
        values = [each[name] for each in figures]
        return bool(values) and len(values) - 1 - best(values, mode) >= patience

    return stop


def best(values: Sequence[float], mode: Literal["min", "max"] = "min") -> int:
    """The index of the first best value; NaN is worse than any."""
    sign = 1 if mode == "min" else -1
    return min(range(len(values)), key=lambda index: (math.isnan(values[index]), sign * values[index]))


def _with_nan(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in figures.items()}


def _finite(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf if math.isfinite(leaf) else None, tree)
