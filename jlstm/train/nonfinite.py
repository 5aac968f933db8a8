"""The error for a loss, a gradient or an update that is NaN or infinite."""

from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jlstm._src import serialization
from jlstm.data import Batches
from jlstm.train.step import State


class NonFiniteError(FloatingPointError):
    """The loss, the gradient or the update of a step is NaN or infinite.

    Attributes:
        step: Number of steps before the failing one.
        params: Parameters before the failing step.
        carry: Carry before the failing step, or None if batches do not pass on a carry.
        batch: The `Batch` of the failing step.
    """

    def __init__(self, state: State, batches: Batches[Any], folder: Path | None) -> None:
        epoch, index = divmod(int(state.step), len(batches))
        self.step, self.params, self.carry = int(state.step), state.params, state.carry
        # Batches follow from their number, so the one of this step can be read again.
        self.batch = next(batches.epoch(epoch, index))
        where = "in this error's attribute batch" if folder is None else self._keep(folder)
        super().__init__(
            f"the loss, the gradient or the update of step {self.step + 1} is not finite; its batch is {where}: "
            "look at it, clip the gradient (optax.clip_by_global_norm), lower the learning rate, or go on with nonfinite='skip'"
        )

    def _keep(self, folder: Path) -> str:
        path = folder / f"batch_of_step_{self.step + 1}.npz"
        leaves = jax.tree_util.tree_leaves_with_path(self.batch)
        content = BytesIO()
        np.savez(content, **{jax.tree_util.keystr(key_path, simple=True, separator="."): leaf for key_path, leaf in leaves})
        try:
            if jax.process_index() == 0:
                serialization.write(path, content.getvalue())
        except OSError:  # a full disk must not hide the original error
            return f"in this error's attribute batch, since {path} cannot be written"
        return f"in {path}"
