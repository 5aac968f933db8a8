"""A progress bar."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from jaxtyping import Array

from jlstm.train.passes import means


class Progress:
    """Steps done, time to go, loss, metrics and examples a second, on a terminal; nothing if not `shown`, or without a terminal.

    Args:
        shown: whether to.
        total: steps of the whole run.
        done: those that it has behind it.
        size: examples a step.

    Raises:
        ImportError: rich, which draws it, is not installed.
    """

    def __init__(self, shown: bool, total: int, done: int, size: int) -> None:
        self._size, self._due, self._bar = size, 0.0, _bar() if shown else None
        if self._bar is not None:
            self._task = self._bar.add_task("Training", total=total, completed=done, figures="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, sums: Mapping[str, Array]) -> None:
        """Show that `step` steps are done, and the means of what was measured since the last record; ten times a second."""
        if self._bar is not None and time.monotonic() >= self._due:
            self._due = time.monotonic() + 0.1
            speed = self._bar.tasks[self._task].speed
            figures = [f"{name} {value:.4g}" for name, value in means(sums).items() if name != "grad_norm"]
            figures += [f"{self._size * speed:,.0f} examples/s"] if speed else []
            self._bar.update(self._task, completed=step, figures="  ".join(figures))


def _bar() -> Any:
    """A bar, or None where there is no terminal."""
    try:
        from rich import progress
        from rich.console import Console
    except ImportError as error:
        raise ImportError("the progress bar needs rich: pip install 'jlstm[train]', or give progress=False") from error
    columns = (
        progress.BarColumn(bar_width=15),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[figures]}"),
    )
    console = Console()
    return progress.Progress(*columns, console=console, transient=True) if console.is_terminal else None
