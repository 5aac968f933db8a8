"""Records as curves in TensorBoard."""

import os
from collections.abc import Callable
from typing import Any

import jax

from jlstm import checks
from jlstm.cell import Params
from jlstm.train.history import Record


def tensorboard(folder: str | os.PathLike[str]) -> Callable[[Record, Params], None]:
    """Return a callback for `fit` that writes each record to TensorBoard's event files; `tensorboard --logdir folder` shows them.

    Curves are called as in a record: `train/loss`, `validation/loss` and so on, and `examples_per_second`. A run that goes on
    from a checkpoint goes on in the same folder: what was drawn beyond that checkpoint is drawn anew, not twice. Several runs
    need a folder each.

    Raises:
        ImportError: tensorboardX, which writes the files, is not installed.
    """
    checks.path("folder", folder)
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError("writing for TensorBoard needs tensorboardX: pip install 'jlstm[train]'") from error
    writer: Any = None

    def write(record: Record, _: Params) -> None:
        nonlocal writer
        if jax.process_index() != 0:
            return
        if writer is None:  # not before the first record is there: readers drop all that older files have from its step on
            suffix = f".{os.getpid()}.{record.step}"  # else a second writer within a second would take the first one's file
            writer = SummaryWriter(os.fspath(folder), purge_step=record.step, flush_secs=1, filename_suffix=suffix)
        figures = {f"train/{name}": value for name, value in record.train.items()}
        figures |= {f"validation/{name}": value for name, value in record.validation.items()}
        for name, value in {**figures, "examples_per_second": record.examples_per_second}.items():
            writer.add_scalar(name, value, record.step)

    return write
