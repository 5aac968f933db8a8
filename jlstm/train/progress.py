"""A progress bar."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self


class Progress:
    """Steps done, loss, examples a second and time to go, on a terminal; nothing where `shown` is false or there is no terminal.

    Raises:
        ImportError: rich, which draws it, is not installed.
    """

    def __init__(self, shown: bool, total: int, done: int) -> None:
        self._bar: Any = _bar() if shown else None
        if self._bar is not None:
            self._task = self._bar.add_task("Training", total=total, completed=done, figures="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, figures: Mapping[str, float]) -> None:
        """Show that `step` steps are done, and figures such as the loss."""
        if self._bar is not None:
            text = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())
            self._bar.update(self._task, completed=step, figures=text)


def _bar() -> Any:
    try:
        from rich import progress
        from rich.console import Console
    except ImportError as error:
        raise ImportError("the progress bar needs rich: pip install 'jlstm[train]', or give progress=False") from error
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[figures]}"),
    )
    console = Console()
    return progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
