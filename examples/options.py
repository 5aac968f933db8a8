"""The options that all examples share, and what they mean for a training run."""

import dataclasses
import os
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
    devices: int | None = None  # of this process, to split each batch over; processors count as one unless this asks for more
    distributed: bool = False  # one of the processes that Slurm, Kubernetes or a Cloud TPU started: docs/scaling.md
    coordinator: str | None = None  # HOST:PORT of the first process, where no such system tells; needs --processes and --process
    processes: int | None = None  # how many there are
    process: int | None = None  # which of them this is; 0 is the first, and the only one that prints

    def fit(self, loss_fn: Any, params: Any, optimizer: Any, batches: Any, **more: Any) -> train.Result:
        """`jlstm.train.fit` with these options: a progress bar, checkpoints and the history in `out`."""
        self.out.mkdir(parents=True, exist_ok=True)
        length = {"epochs": self.epochs} if self.steps is None else {"steps": self.steps}
        where = {"checkpoints": self.out / "checkpoints", "history": self.out / "history.jsonl", "mesh": self.mesh()}
        shared = length | where | {"resume": self.resume, "key": jax.random.key(self.seed), "progress": True}
        try:
            return train.fit(loss_fn, params, optimizer, batches, **(shared | more))
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{stop}: the same command with --resume goes on") from stop

    def mesh(self) -> Any:
        """The devices of all processes, or as many as were asked for; None is one device."""
        if self.distributed or self.coordinator:
            return train.mesh()
        if not self.devices:
            return None
        if self.devices > len(jax.devices()):
            raise ValueError(f"--devices {self.devices} asks for more than the {len(jax.devices())} that JAX sees here")
        return train.mesh(devices=jax.devices()[: self.devices])

    def prepare(self) -> None:
        """Check the numbers, make the folder `out`, and start the devices that were asked for."""
        for name, value in dataclasses.asdict(self).items():
            if name in ("epochs", "steps", "batch", "devices", "seeds") and value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")
        self.out.mkdir(parents=True, exist_ok=True)
        train.keep_memory()
        if self.devices:
            jax.config.update("jax_num_cpu_devices", self.devices)
        by_hand = (self.coordinator, self.processes, self.process)
        if self.distributed or by_hand != (None, None, None):
            join(*by_hand)


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Find the other processes of a run; from then on only the first one prints."""
    by_hand = (coordinator, processes, process)
    if by_hand != (None, None, None) and (None in by_hand or ":" not in str(coordinator)):
        raise ValueError("processes that are started by hand need --coordinator HOST:PORT, --processes and --process")
    try:
        jax.distributed.initialize(*by_hand)
    except ValueError as error:
        raise ValueError(f"no other processes were found ({error}): check --coordinator, --processes and --process") from error
    if jax.process_index() > 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def one_sentence() -> Iterator[None]:
    """End the script with one sentence for what is no fault of its own: a missing file or package, a wrong option, Ctrl-C."""
    try:
        yield
    except (OSError, ImportError, ValueError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        sys.exit(130)
