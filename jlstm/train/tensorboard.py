"""A callback that writes records for TensorBoard."""

import os
from collections.abc import Callable
from typing import Any

import jax

from jlstm._src import checks
from jlstm._src.packages import needed_by
from jlstm.cell import Params
from jlstm.train.history import Record


def tensorboard(folder: str | os.PathLike[str]) -> Callable[[Record, Params], None]:
    """Return a callback for `fit` that writes each record to TensorBoard's event files.

    Show them with `tensorboard --logdir folder`. Curves have the names of the record's fields: `train/loss`, `validation/loss`
    and so on, and `examples_per_second`. A resumed run can continue in the same folder: TensorBoard discards the points after the
    checkpoint and shows the new ones. Different runs need different folders.

    Args:
        folder: Folder for the event files.

    Returns:
        A callback `(record, params) -> None`.

    Raises:
        ImportError: tensorboardX is not installed.
    """
    checks.path("folder", folder)
    with needed_by("writing for TensorBoard", "jlstm[train]"):
        from tensorboardX import SummaryWriter
    writer: Any = None

    def write(record: Record, _: Params) -> None:
        nonlocal writer
        if jax.process_index() != 0:
            return
        if writer is None:  # only now is `purge_step` known: readers drop older points from this step on
            suffix = f".{os.getpid()}.{record.step}"  # two writers within one second would otherwise share a file name
            writer = SummaryWriter(os.fspath(folder), purge_step=record.step, flush_secs=1, filename_suffix=suffix)
        figures = {f"train/{name}": value for name, value in record.train.items()}
        figures |= {f"validation/{name}": value for name, value in record.validation.items()}
        for name, value in {**figures, "examples_per_second": record.examples_per_second}.items():
            writer.add_scalar(name, value, record.step)

    return write
