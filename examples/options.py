"""The options that all examples share, and what they mean for a training run."""

import dataclasses
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from jlstm import train


@dataclass(frozen=True)
class Options:
    """Options of a training run; an example adds its own and other defaults."""

    data_dir: Path | None = None  # folder with the data sets; without it $JLSTM_DATA, and without that a verified download
    epochs: int = 10  # passes over the training data
    steps: int | None = None  # stop after this many training steps instead, for a quick look
    batch: int = 128  # examples a step
    seed: int = 0  # of the initial weights, the order of the data and the dropout
    out: Path = Path("results")  # folder for checkpoints, history.jsonl, weights and pictures
    resume: bool = False  # go on from the checkpoint in --out instead of starting anew
    devices: int | None = None  # split each batch over this many devices; processors count as one unless this asks for more
    distributed: bool = False  # one of several processes, which find each other as docs/scaling.md tells

    def fit(self, loss_fn: Any, params: Any, optimizer: Any, batches: Any, **more: Any) -> train.Result:
        """`jlstm.train.fit` with these options: a progress bar, checkpoints and the history in `out`."""
        if not self.resume and jax.process_index() == 0:
            shutil.rmtree(self.out / "checkpoints", ignore_errors=True)
        self.out.mkdir(parents=True, exist_ok=True)
        length = {"epochs": self.epochs} if self.steps is None else {"steps": self.steps}
        where = {"checkpoints": self.out / "checkpoints", "history": self.out / "history.jsonl", "mesh": self.mesh()}
        shared = length | where | {"key": jax.random.key(self.seed), "progress": True}
        return train.fit(loss_fn, params, optimizer, batches, **(shared | more))

    def mesh(self) -> Any:
        """All devices, if there are several to be used."""
        return train.mesh() if self.distributed or self.devices else None

    def prepare(self) -> None:
        """Check the numbers, make the folder `out`, and start the devices that were asked for."""
        for name, value in dataclasses.asdict(self).items():
            if name in ("epochs", "steps", "batch", "devices") and value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")
        self.out.mkdir(parents=True, exist_ok=True)
        train.keep_memory()
        if self.devices:
            jax.config.update("jax_num_cpu_devices", self.devices)
        if self.distributed:
            jax.distributed.initialize()


@contextmanager
def one_sentence() -> Iterator[None]:
    """End the script with one sentence for what is no fault of its own: a missing file or package, a wrong option, Ctrl-C."""
    try:
        yield
    except (OSError, ImportError, ValueError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as stop:
        print(stop or "stopped", file=sys.stderr)
        sys.exit(130)
