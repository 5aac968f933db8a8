"""Command-line options that all examples share."""

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
    """Options of a training run. Each example adds options and changes defaults."""

    data_dir: Path | None = None  # folder with the data sets; the default is $JLSTM_DATA, or else a verified download
    epochs: int = 10  # passes over the training data
    steps: int | None = None  # train for this many steps instead of epochs, for a quick test
    batch: int = 128  # examples per step
    seed: int = 0  # seed of the initial weights, the order of the data and the dropout
    out: Path = Path("results")  # folder for checkpoints, history.jsonl, weights and pictures
    resume: bool = False  # resume from the checkpoint in --out instead of starting again
    devices: int | None = None  # devices of this process to split each batch over; by default the CPU counts as one device
    distributed: bool = False  # this is one of several processes started by Slurm, Kubernetes or Cloud TPU; see docs/scaling.md
    coordinator: str | None = None  # HOST:PORT of the first process, if no such system tells it; needs --processes and --process
    processes: int | None = None  # number of processes
    process: int | None = None  # index of this process; 0 is the first, and the only one that prints

    def fit(self, loss_fn: Any, params: Any, optimizer: Any, batches: Any, **kwargs: Any) -> train.Result:
        """Call `jlstm.train.fit` with these options, a progress bar, and checkpoints and history in `out`.

        Args:
            loss_fn: Loss function of `jlstm.train.fit`.
            params: Initial parameters.
            optimizer: Optimizer of optax.
            batches: Training batches.
            **kwargs: Further arguments of `jlstm.train.fit`; they have precedence over these options.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        length = {"epochs": self.epochs} if self.steps is None else {"steps": self.steps}
        outputs = {"checkpoints": self.out / "checkpoints", "history": self.out / "history.jsonl", "mesh": self.mesh()}
        shared = length | outputs | {"resume": self.resume, "key": jax.random.key(self.seed), "progress": True}
        try:
            return train.fit(loss_fn, params, optimizer, batches, **(shared | kwargs))
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{stop}: the same command with --resume goes on") from stop

    def mesh(self) -> Any:
        """Return a mesh of the devices of all processes or of `devices` devices, or None for a single device."""
        if self.distributed or self.coordinator:
            return train.mesh()
        if not self.devices:
            return None
        if self.devices > len(jax.devices()):
            raise ValueError(f"--devices {self.devices} asks for more than the {len(jax.devices())} that JAX sees here")
        return train.mesh(devices=jax.devices()[: self.devices])

    def prepare(self) -> None:
        """Check the numbers, create the folder `out`, and set up devices and processes."""
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
    """Connect to the other processes of a run. After this, only the first process prints.

    Args:
        coordinator: HOST:PORT of the first process. None means that the cluster environment provides all three values.
        processes: Number of processes.
        process: Index of this process.

    Raises:
        ValueError: Only some of the arguments are given, or the other processes cannot be found.
    """
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
    """Return a context manager that exits with a one-line message, without a traceback, on user errors and Ctrl-C."""
    try:
        yield
    except (OSError, ImportError, ValueError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        sys.exit(130)
