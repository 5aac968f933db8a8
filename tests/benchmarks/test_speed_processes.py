"""The speed benchmarks at work: every framework computes the whole problem, and failures of processes are reported."""

import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata

import numpy as np
import pytest

from benchmarks import machine
from benchmarks.speed import cli, figures, frameworks, measure, memory, page, pool, weigh, worker
from benchmarks.speed.frameworks import FRAMEWORKS, Setting
from benchmarks.speed.job import Job
from benchmarks.speed.points import Point
from benchmarks.speed.pool import WorkerError
from speeds import SMALL, report

pytestmark = pytest.mark.no_cover


@pytest.mark.table(quick=3)
@pytest.mark.loose
@pytest.mark.parametrize("name", ["jlstm", "flax-linen", "flax-nnx", "compat-flax-linen", "compat-flax-nnx"])
@pytest.mark.parametrize("form", ["bidirectional", "ragged", "gru", "step"])
def test_frameworks_compute_all_of_it(name, form):
    """A job returns all outputs, which are zero at padded steps, or one gradient for each parameter and none for the inputs."""
    module, version = frameworks.load(name)
    small = SMALL[form]
    jobs = module.build(small, Setting(1, FRAMEWORKS[name].variant))
    assert version
    if form == "step":
        assert jobs.keys() == ({"step", "empty"} if name == "jlstm" else {"step"})
        return
    assert jobs.keys() == {"forward", "training"}
    results = {job: call() for job, call in jobs.items()}
    for job, result in results.items():
        fewest, most = small.results(job)
        assert fewest <= worker.count(result) <= most
    (ys,) = map(np.asarray, results["forward"])
    padding = np.arange(small.time)[:, None] >= (small.lengths if form == "ragged" else np.full(small.batch, small.time))
    assert padding.any() == (form == "ragged")
    assert (ys[padding] == 0).all()
    assert (ys[~padding] != 0).all()


@pytest.mark.parametrize(("gpu", "delay"), [(True, 0.0), (True, 0.1), (False, 0.0)])
def test_a_gpu_gets_the_next_call_before_the_last_one_is_done(gpu, delay):
    """There several calls are started before the last one is waited for, unless one call takes as long as a burst."""
    events = ""

    def start():
        nonlocal events
        events += "s"
        return len(events)

    def wait(result):
        nonlocal events
        assert result == len(events)
        events += "w"
        time.sleep(delay)

    server = worker.Server(None, Setting(1, gpu=gpu))
    server.job = Job(start, wait)
    answer = server.burst(0.05, 3)
    untimed = "swswsw" if gpu else "sw"
    bursts = events.removeprefix(untimed).removesuffix("w").split("w")
    assert len(set(bursts)) == 1
    assert (1 < len(bursts[0]) <= worker.PIPELINED) if gpu and not delay else bursts[0] == "s"
    assert answer["calls"] == len("".join(bursts)) == events.count("s") - untimed.count("s")
    assert delay < answer["lowest"] <= answer["median"]


def test_packages_that_are_missing_are_left_out(monkeypatch):
    """A machine without TensorFlow can measure the others, and a checkout that is not installed has a version too."""

    def version(name):
        if name in ("tensorflow", "keras", "jlstm"):
            raise metadata.PackageNotFoundError(name)
        return "1.2"

    installed = metadata.version("jlstm")
    monkeypatch.setattr(metadata, "version", version)
    versions = machine.versions()
    assert versions.keys() == {"python", *machine.PACKAGES} - {"tensorflow", "keras"}
    assert versions["jlstm"] == installed
    with pytest.raises(ImportError, match="tensorflow"):
        machine.version("tensorflow")


@pytest.mark.slow
def test_a_machine_without_most_packages(tmp_path):
    """With nothing but the core's packages, ours is measured, the tables are printed, and the JSON is written."""
    names = ("tensorflow", "keras", "flax", "optax", "rich", "matplotlib", "haiku", "equinox", "torch", "onnxruntime")
    blocked = tmp_path / "blocked"
    for name in names:
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text(f'raise ModuleNotFoundError("blocked", name="{name}")')
    out = tmp_path / "speed.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--points", "step", "--threads", "1", "--out", str(out)]
    path = os.pathsep.join(filter(None, (str(blocked), os.environ.get("PYTHONPATH"))))
    process = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, cwd=machine.ROOT)
    assert process.returncode == 0, process.stderr
    assert {row.framework for row in page.read(out).rows} >= {"jlstm", "numpy"}
    assert "left out: torch (blocked)" in process.stdout
    assert "left out: page and picture (drawing needs matplotlib" in process.stdout


def test_memory_grows_by_what_is_held():
    """An array of forty million bytes shows in the resident memory and its peak. Only Linux with glibc has to report them."""
    before = memory.resident() if memory.forget_peak() else None
    if before is None:
        assert platform.libc_ver()[0] != "glibc"
        return
    held = np.ones(5_000_000)
    assert memory._status("VmRSS") - before > 0.8 * held.nbytes
    assert memory.peak() - before > 0.8 * held.nbytes


def test_where_the_system_does_not_tell_there_is_no_memory(tmp_path, monkeypatch):
    """On a system without these files the memory is None, and the peak cannot be reset."""
    monkeypatch.setattr(memory, "STATUS", tmp_path / "no folder" / "status")
    monkeypatch.setattr(memory, "FORGET", tmp_path / "no folder" / "clear_refs")
    assert not memory.forget_peak()
    assert memory.resident() is None
    assert memory.peak() is None


@pytest.mark.slow
def test_a_run_of_processes(tmp_path, capsys, monkeypatch):
    """A run of jlstm and a peer writes rows, page and picture. `--draw` makes the same page and picture from the rows again."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compile fast rather than well
    monkeypatch.setattr(cli, "POINTS", {"2x5x3x4": SMALL["plain"], "step": SMALL["step"]})
    monkeypatch.setattr(frameworks, "OURS", {"jlstm": FRAMEWORKS["jlstm"]})
    monkeypatch.setattr(measure, "PEAK", Point(16, 1, 16, (16,), "matrix", "peak"))
    monkeypatch.setattr(measure, "FULL", measure.Plan(2, 0.001))
    monkeypatch.setattr(weigh, "peak", lambda framework, *_: None if framework == "numpy" else 1_000_000)
    out = tmp_path / "new" / "speed.json"
    assert cli.main(["--peers", "flax-linen", "--threads", "1", "--out", str(out)]) == 0
    made = page.read(out)
    assert list(made.frameworks) == ["jlstm", "flax-linen", "numpy"]
    assert made.errors == []
    assert made.versions.keys() >= {"jax", "flax", "python"}
    for where, job in (("2x5x3x4", "forward"), ("2x5x3x4", "training")):
        assert list(figures.times(made, where, job)) == ["jlstm", "flax-linen"]
    assert list(figures.times(made, "step", "step")) == ["jlstm", "flax-linen"]
    assert list(figures.times(made, "step", "empty")) == ["jlstm"]
    for row in made.rows:
        assert 0 < row.low <= row.median <= row.high < row.first_seconds + 60
        assert [turn.calls > 0 for turn in row.rounds] == [True] * 2
    assert [(job, list(bytes_by_framework)) for job, bytes_by_framework in made.memory.items()] == [
        (job, ["jlstm", "flax-linen"]) for job in ("forward", "training")
    ]
    printed = capsys.readouterr().out
    assert "Forward and backward, milliseconds" in printed
    assert "2×5×3×4" in printed
    written = out.with_suffix(".md").read_text()
    out.with_suffix(".md").unlink()
    picture = out.with_suffix(".png").read_bytes()
    assert cli.main(["--draw", str(out)]) == 0
    assert out.with_suffix(".md").read_text() == written
    assert out.with_suffix(".png").read_bytes() == picture
    for words in ("an empty call", "| 2x5x3x4 | forward | flax-linen |", "![GFLOP/s"):
        assert words in written


@pytest.mark.slow
def test_memory_is_that_of_one_job_alone(tmp_path, monkeypatch):
    """`--memory` replaces the memory in a report and keeps its times. A job with 64 MB of outputs takes little more."""
    monkeypatch.setattr(weigh, "SEQUENCE", ["forward"])
    wide = Point(1000, 100, 4, (160,))
    made = report(("wide", "forward", "jlstm", 1.0), memory={"forward": {"jlstm": {"wide": 1}}})
    made.points["wide"] = wide
    del made.frameworks["torch"], made.frameworks["flax-linen"]
    page.write(out := tmp_path / "speed.json", made)
    assert cli.main(["--memory", "--out", str(out)]) == 0
    again = json.loads(out.read_text())
    if platform.libc_ver()[0] == "glibc":
        outputs = 4 * 1000 * 100 * 160
        assert 0.9 * outputs < again.pop("memory")["forward"]["jlstm"]["wide"] < 1.5 * outputs
        assert "tiny size" in again["notes"].pop("memory")
        assert again == {name: value for name, value in json.loads(json.dumps(made.to_json())).items() if name != "memory"}


def test_memory_of_a_framework_that_fails_is_an_error_of_the_report(monkeypatch):
    """The other frameworks are measured. A framework without the job has no column."""

    def peak(framework, threads, job, point):
        if framework == "torch":
            raise WorkerError("torch: RuntimeError: no")
        return None if framework == "onnxruntime" else 10_000_000 if point == weigh.TINY else 12_000_000

    monkeypatch.setattr(weigh, "peak", peak)
    made = report()
    weigh.run(made, {"2x5x3x4": SMALL["plain"], "step": SMALL["step"]}, ["torch", "onnxruntime", "jlstm"], print)
    assert made.memory == {job: {"jlstm": {"2x5x3x4": 2_000_000}} for job in ("forward", "training")}
    assert made.errors == [f"memory, {job}: torch: RuntimeError: no" for job in ("forward", "training")]


class Scripted:
    """A worker without a process, which returns prepared answers, one after the other."""

    def __init__(self, *answers):
        self.answers = iter(answers)

    def __call__(self, name, *_, **__):
        self.name = name
        return self

    def tell(self, *_, **__):
        """Ignore the request: the answers are prepared."""

    def answer(self):
        if isinstance(answer := next(self.answers), WorkerError):
            raise answer
        return answer

    def __exit__(self, *_):
        """Do nothing: there is no process to end."""


def test_a_peer_that_cannot_be_imported(monkeypatch, capsys):
    """A peer that cannot be imported is left out with a line of output. If it was named, the run ends."""
    none = {"not_importable": "No module named 'numpy'"}
    monkeypatch.setattr(pool, "Worker", Scripted(none, none))
    with pool.start(["numpy"], [], 1, gpu=False) as workers:
        assert workers == {}
    assert capsys.readouterr().out == "left out: numpy (No module named 'numpy')\n"
    with pytest.raises(WorkerError, match=r"numpy cannot be imported \(No module named 'numpy'\): pip install"):
        pool.start(["numpy"], ["numpy"], 1, gpu=False).__enter__()


@pytest.mark.slow
def test_a_peer_that_cannot_do_a_small_problem(monkeypatch, capsys):
    """Such a peer is left out too, or ends the run if it was named. The line has the framework's own error."""
    monkeypatch.setattr(pool, "WARM", SMALL["plain"]._replace(units=(-4,)))
    with pytest.raises(WorkerError, match="a small problem already fails on this device: flax-linen: ") as failed:
        pool.start(["flax-linen"], ["flax-linen"], 1, gpu=False).__enter__()
    monkeypatch.setattr(pool, "Worker", Scripted({"version": "1"}, failed.value.__cause__))
    with pool.start(["flax-linen"], [], 1, gpu=False) as workers:
        assert workers == {}
    assert capsys.readouterr().out == f"left out: {failed.value.__cause__}\n"


def test_what_fails_is_told_and_the_others_go_on():
    """A job that raises, and a job whose result is too small, are errors of the report and have no row."""

    class Failing:
        def ask(self, do, **more):
            raise WorkerError("torch: RuntimeError: no")

    class Lazy:
        def ask(self, do, **more):
            return {"values": 1, "build_seconds": 1.0, "first_seconds": 1.0}

    class Honest(Lazy):
        def ask(self, do, **more):
            return super().ask(do) | {"values": 40} if do == "prepare" else {"calls": 1, "median": 1.0, "lowest": 1.0}

    made = report()
    workers = {"torch": Failing(), "haiku": Lazy(), "jlstm": Honest()}
    rows = measure._job(made, "a", SMALL["plain"], "forward", workers)
    assert [(row.framework, len(row.rounds)) for row in rows] == [("jlstm", 3)]
    assert made.errors == [
        "a forward: torch: RuntimeError: no",
        "a forward: haiku: its result has 1 numbers, expected 40: it does something else",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--points", "1x1"], "there is no point '1x1': choose among 128x28x128x128, "),
        (["--peers", "caffe"], "there is no peer 'caffe': choose among torch, "),
        (["--peers", "jax-cudnn"], "jax-cudnn runs on a GPU only: add --gpu"),
        (["--gpu", "--peers", "keras-tf"], "keras-tf does not run on the GPU here"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--threads", "0"], "--threads must be from 1 to "),
        (["--compare", "a", "b", "c"], "--compare takes one file or two, got 3"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments, words, capsys):
    """The command exits with status 2 and a sentence before anything is measured."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_a_file_that_is_no_report_is_told(tmp_path, capsys):
    """A missing file and a file of another kind are refused in one sentence."""
    assert cli.main(["--draw", str(tmp_path / "none.json")]) == 1
    (other := tmp_path / "other.json").write_text("{}")
    assert cli.main(["--compare", str(other), str(other)]) == 1
    error = capsys.readouterr().err
    assert "there is no file" in error
    assert "other.json is no report of python -m benchmarks" in error
