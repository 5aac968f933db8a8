"""What was measured during training: records, as lines of JSON and as a reason to stop."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from jlstm import io


class Record(NamedTuple):
    """One moment of a training run.

    Attributes:
        step: steps taken so far.
        epoch: passes over the data so far, a fraction within one.
        train: means since the record before: `loss`, `grad_norm` (of the whole gradient, before the optimizer) and the metrics.
        validation: the same without dropout and `grad_norm`, over the validation data; empty without such data.
        seconds: of training since the record before, without validation.
        examples_per_second: in that time.
    """

    step: int
    epoch: float
    train: dict[str, float]
    validation: dict[str, float]
    seconds: float
    examples_per_second: float


History = list[Record]


def write(path: str | os.PathLike[str], history: Sequence[Record]) -> None:
    """Write a history as JSON Lines, one record a line, beside the file first and then renamed."""
    io.write(Path(path), "".join(json.dumps(record._asdict()) + "\n" for record in history).encode())


def read(path: str | os.PathLike[str]) -> History:
    """Read what `write` wrote."""
    return [Record(**json.loads(line)) for line in Path(path).read_text().splitlines()]


def early_stopping(
    part: Literal["train", "validation"] = "validation",
    name: str = "loss",
    *,
    patience: int = 3,
    mode: Literal["min", "max"] = "min",
) -> Callable[[Sequence[Record]], bool]:
    """Return a function of the history that is true once `patience` records in a row brought no new best.

    Examples:
        >>> from jlstm.train import Record, early_stopping
        >>> stop = early_stopping(patience=2)
        >>> history = [Record(step, step, {}, {"loss": loss}, 1.0, 1.0) for step, loss in enumerate([3, 2, 4, 2])]
        >>> stop(history[:3]), stop(history)
        (False, True)
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}")

    def stop(history: Sequence[Record]) -> bool:
        values = [getattr(record, part)[name] for record in history]
        return bool(values) and len(values) - 1 - best(values, mode) >= patience

    return stop


def best(values: Sequence[float], mode: Literal["min", "max"] = "min") -> int:
    """The index of the first best value."""
    return values.index(min(values) if mode == "min" else max(values))
