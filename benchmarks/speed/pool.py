"""Start one process per framework, and send requests to one process at a time."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Self

from benchmarks.machine import ENVIRONMENT, ROOT
from benchmarks.speed.frameworks import FRAMEWORKS
from benchmarks.speed.points import WARM

EXIT_SECONDS = 20  # time that a process has to end by itself, before it is killed


class WorkerError(RuntimeError):
    """A framework's process has failed at a request, or has ended."""


class Worker:
    """A framework's process.

    Args:
        name: the framework's name.
        threads: the number of threads that it may use.
        gpu: whether it runs on the GPU.
        extra_environment: additional environment variables.
        seconds: time for an answer, after which the process is killed; None for no limit.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        *,
        gpu: bool,
        extra_environment: Mapping[str, str] = MappingProxyType({}),
        seconds: float | None = None,
    ) -> None:
        self.name, self.version, self.seconds = name, "", seconds
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self.command = [sys.executable, "-m", "benchmarks.speed.worker", name, str(threads), "gpu" if gpu else "cpu"]
        self.environment = environment(threads, gpu=gpu) | dict(FRAMEWORKS[name].environment) | dict(extra_environment)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command,
            env=os.environ | self.environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        try:
            self.process.communicate(timeout=EXIT_SECONDS)  # closes its stdin, which is its sign to stop
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.communicate()
        self.errors.close()

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for the answer. A process that has ended is started again.

        Args:
            request: name of a method of `worker.Server`.
            **arguments: its arguments, which must be JSON.

        Raises:
            WorkerError: the request failed, or the process has ended.
        """
        self._revive()
        self.tell(request, **arguments)
        return self.answer()

    def tell(self, request: str, **arguments: Any) -> None:
        """Send a request; `answer` fetches the result later.

        Raises:
            WorkerError: the process has ended.
        """
        try:
            print(json.dumps({"do": request} | arguments), file=self.process.stdin, flush=True)
        except BrokenPipeError as error:
            raise WorkerError(f"{self.name}: {self._exit_message()}") from error

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to a request.

        Raises:
            WorkerError: the request failed, or the process has ended.
        """
        line = read_line(self.process, self.seconds)
        if not line:
            raise WorkerError(f"{self.name}: {self._exit_message()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.name}: {answer['error']}")
        return answer

    def _revive(self) -> None:
        """Start the process again if it has ended, because a framework that failed at one job can still do the next."""
        if self.process.poll() is not None:
            self.process.communicate()
            self.process = self._start()
            self.answer()

    def _exit_message(self) -> str:
        """Wait for the process to end; return its exit status and its last line of errors."""
        status = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return f"its process ended with exit status {status}{': ' + lines[-1] if lines else ''}"


def read_line(process: subprocess.Popen[str], seconds: float | None) -> str:
    """Return the next line that a process writes, or "" if it ends. It is killed if it writes none for some seconds."""
    timer = threading.Timer(seconds, process.kill) if seconds else None
    if timer:
        timer.start()
    line = process.stdout.readline() if process.stdout else ""
    if timer:
        timer.cancel()
    return line


@contextmanager
def start(
    names: Sequence[str], required: Sequence[str], threads: int, *, gpu: bool, seconds: float | None = None
) -> Iterator[dict[str, Worker]]:
    """Start the processes of the frameworks that can be imported; print a line for each of the others.

    Args:
        names: the frameworks' names.
        required: the frameworks that must not be left out.
        threads: the number of threads of each process.
        gpu: whether to use the GPU.
        seconds: time of a process for an answer; None for no limit.

    Raises:
        WorkerError: a framework in `required` cannot be imported, or fails on a small problem.
    """
    workers: list[Worker] = []
    try:
        # The processes import their frameworks at the same time.
        workers += [Worker(name, threads, gpu=gpu, seconds=seconds) for name in names]
        ready = {worker.name: worker for worker in workers if _imported(worker, worker.name in required)}
        for worker in ready.values():
            worker.tell("warm_up", point=WARM._asdict())
        yield {name: worker for name, worker in ready.items() if _warm(worker, name in required)}
    finally:
        for worker in workers:
            worker.__exit__()


def _imported(worker: Worker, is_required: bool) -> bool:
    """Wait until a process has imported its framework; return whether it could."""
    answer = worker.answer()
    worker.version = answer.get("version", "")
    if "not_importable" in answer and is_required:
        remedy = 'pip install "jlstm[peers,parity]", or leave it out'
        raise WorkerError(f"{worker.name} cannot be imported ({answer['not_importable']}): {remedy}")
    if "not_importable" in answer:
        print(f"left out: {worker.name} ({answer['not_importable']})", flush=True)
    return "version" in answer


def _warm(worker: Worker, is_required: bool) -> bool:
    """Wait until a process has run a small problem; return whether it could."""
    try:
        worker.answer()
    except WorkerError as error:
        if is_required:
            raise WorkerError(f"a small problem already fails on this device: {error}") from error
        print(f"left out: {error}", flush=True)
        return False
    return True


def environment(threads: int, *, gpu: bool) -> dict[str, str]:
    """Return the environment of all processes: thread counts for every library, memory settings as in `benchmarks.machine`."""
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    common = {name: value for name, value in ENVIRONMENT.items() if not gpu or name != "CUDA_VISIBLE_DEVICES"}
    # All processes share one GPU. The CPU computes what is exact.
    device = {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"} if gpu else {}
    return common | device | dict.fromkeys(counts, str(threads))
