"""Several processes on one machine train as one device does, survive a signal, and go on from one checkpoint."""

import json
import shutil
import signal
import time

import jax
import numpy as np
import pytest

import scaling
from jlstm.train.history import read
from launch import ROOT, start, wait

pytestmark = [pytest.mark.no_cover, pytest.mark.loose, pytest.mark.xdist_group("processes")]

JOBS = {
    "classifier": {"problem": "classifier"},
    "language model": {"problem": "language model", "epochs": 5, "every": 2, "steps_per_call": 2},  # records amid epochs of 4
}
CLASSIFIER, LANGUAGE_MODEL = JOBS.values()
RECORDS = list(range(2, 22, 2))


class Outcome:
    """The results of each of several processes for each of its jobs."""

    def __init__(self, folder, processes):
        self.folder, self.processes = folder, range(processes)

    def arrays(self, job, process=0):
        """Return the last and the best parameters."""
        with np.load(self.folder / f"{job}_of_{process}.npz") as file:
            return list(file.values())

    def text(self, job, process=0):
        """Return the metrics of all records and of `evaluate`, or the error."""
        return json.loads((self.folder / f"{job}_of_{process}.json").read_text())


def begin(processes, folder, *jobs):
    """Start processes that run the same jobs together."""
    folder.mkdir(exist_ok=True)
    arguments = "{address}", str(processes), "{process}", str(folder), json.dumps(jobs)
    return start(processes, folder.parent / "cache", ROOT / "tests/support/scaling.py", *arguments, JAX_ENABLE_X64="1")


def do(processes, folder, *jobs):
    """Run jobs in processes together."""
    for printed, code in wait(begin(processes, folder, *jobs)):
        assert code == 0, printed
    return Outcome(folder, processes)


def wait_until(condition, seconds=120):
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def one_device():
    """The same runs on one device, in float64."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return {name: scaling.run(problem(), **options(JOBS[name])) for name, problem in scaling.PROBLEMS.items()}


@pytest.fixture(scope="module")
def two(folder):
    """Two processes: one run that ends early and leaves a checkpoint, and one with split columns."""
    where = {"checkpoints": str(folder / "two/checkpoints"), "history": str(folder / "two/history.jsonl")}
    return do(2, folder / "two", LANGUAGE_MODEL | {"epochs": 2} | where, CLASSIFIER | {"units": 2})


def options(job):
    """Return the options of `fit`."""
    return {name: value for name, value in job.items() if name != "problem"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def stopped(folder):
    """The checkpoints of two processes, one of which got SIGTERM."""
    history, checkpoints = folder / "stopped/history.jsonl", folder / "stopped/checkpoints"
    where = {"checkpoints": str(checkpoints), "history": str(history)}
    processes = begin(2, folder / "stopped", LANGUAGE_MODEL | where | {"pause": 1})
    try:
        wait_until(lambda: history.exists() or processes[1].poll() is not None)
        processes[1].send_signal(signal.SIGTERM)
    finally:
        ended = wait(processes)
    for printed, code in ended:
        assert code == -signal.SIGINT, printed
        assert "where it can be resumed" in printed
    assert len(read(history)) < len(RECORDS)
    return checkpoints


@pytest.fixture(scope="module")
def four_jobs(folder, stopped):
    """Two processes: uninterrupted, with different seeds, and from a checkpoint."""
    resumed = LANGUAGE_MODEL | {"checkpoints": str(shutil.copytree(stopped, folder / "copy of two"))}
    return do(2, folder / "four jobs", CLASSIFIER, LANGUAGE_MODEL, CLASSIFIER | {"differ": 1}, resumed)


def assert_as_one_device(outcome, job, expected):
    """Parameters and figures of every process are those of one device."""
    for process in outcome.processes:
        for got, leaf in zip(outcome.arrays(job, process), jax.tree.leaves((expected.params, expected.best)), strict=True):
            np.testing.assert_allclose(got, leaf, rtol=0, atol=1e-12)  # float64 sums over a batch in another order, 20 steps
        numbers, measured = outcome.text(job, process)
        for got, wanted in zip(numbers, scaling.figures(expected.history), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)  # records are sums in float32
        assert list(measured.values()) == numbers[-1]
        assert outcome.text(job, process) == outcome.text(job, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("job", "name"), list(enumerate(scaling.PROBLEMS)))
def test_two_processes_are_one_device(four_jobs, one_device, job, name):
    """Losses, metrics and parameters agree to rounding, and `evaluate` gives the last record's metrics."""
    assert_as_one_device(four_jobs, job, one_device[name])


@pytest.mark.slow
def test_the_history_is_written_once(two):
    """One process writes the history, with all records."""
    history = read(two.folder / "history.jsonl")
    assert [record.step for record in history] == RECORDS[:4]


@pytest.mark.slow
def test_processes_that_begin_differently_are_refused(four_jobs):
    """Parameters from different seeds would silently stay different."""
    for process in four_jobs.processes:
        assert "the same seed in each" in four_jobs.text(2, process)


@pytest.mark.slow
def test_two_processes_go_on_from_their_checkpoint(four_jobs):
    """SIGTERM to one stops both at one step. Started again, they reach the same bits."""
    for process in four_jobs.processes:
        for got, expected in zip(four_jobs.arrays(3, process), four_jobs.arrays(1, process), strict=True):
            np.testing.assert_array_equal(got, expected)
        assert four_jobs.text(3, process) == four_jobs.text(1, process)


@pytest.mark.slow
@pytest.mark.usefixtures("x64", "two")
def test_one_device_goes_on_from_the_checkpoint_of_two_processes(one_device, folder):
    """One device reads what several processes wrote."""
    copy = shutil.copytree(folder / "two/checkpoints", folder / "copy of one")
    result = scaling.run(scaling.language_model(), **options(LANGUAGE_MODEL), checkpoints=copy)
    expected = one_device["language model"]
    for got, leaf in zip(*map(jax.tree.leaves, ((result.params, result.best), (expected.params, expected.best))), strict=True):
        np.testing.assert_allclose(got, leaf, rtol=0, atol=1e-12)  # float64, as above
    assert [record.step for record in result.history] == RECORDS


@pytest.mark.slow
def test_processes_that_share_a_batch_are_one_device(two, one_device):
    """Each has half of the columns of every kernel, and gets the whole batch."""
    assert_as_one_device(two, 1, one_device["classifier"])
