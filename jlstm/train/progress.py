"""The progress bar of `fit`."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from jaxtyping import Array

from jlstm._src.packages import needed_by
from jlstm.train.passes import means


class Progress:
    """A progress bar with steps, remaining time, loss, metrics and examples per second. It draws nothing without a terminal.

    Args:
        shown: Whether to show the bar.
        total: Number of steps of the whole run.
        completed: Number of steps already taken, in a resumed run.
        size: Examples per step.

    Raises:
        ImportError: The bar is shown, and rich is not installed.
    """

    def __init__(self, shown: bool, total: int, completed: int, size: int) -> None:
        self._size, self._due, self._bar = size, 0.0, _bar() if shown else None
        if self._bar is not None:
            self._task = self._bar.add_task("Training", total=total, completed=completed, figures="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, sums: Mapping[str, Array]) -> None:
        """Show the number of steps and the means since the last record. Redraws at most ten times per second."""
        if self._bar is not None and time.monotonic() >= self._due:
            # `means` below waits for the device, so it is called only when the bar is due.
            self._due = time.monotonic() + 0.1
            speed = self._bar.tasks[self._task].speed
            figures = [f"{name} {value:.4g}" for name, value in means(sums).items() if name != "grad_norm"]
            figures += [f"{self._size * speed:,.0f} examples/s"] if speed else []
            self._bar.update(self._task, completed=step, figures="  ".join(figures))


def _bar() -> Any:
    """Return a rich progress bar, or None without a terminal."""
    with needed_by("the progress bar", "jlstm[train]"):
        from rich import progress
        from rich.console import Console
    columns = (
        progress.BarColumn(bar_width=15),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[figures]}"),
    )
    console = Console()
    return progress.Progress(*columns, console=console, transient=True) if console.is_terminal else None
