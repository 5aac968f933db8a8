"""`python -m benchmarks.gpu` without a GPU says so. Its parts go on when programs fail, hang or are missing."""

import ctypes
import json
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks.gpu import cases, checks, cli, processes, ready, report, sanitizer
from benchmarks.gpu.checks import CHECKS, READY, Outcome
from benchmarks.speed import frameworks, measure, points, pool
from benchmarks.speed.frameworks import FRAMEWORKS, Setting
from benchmarks.speed.job import relative_error
from benchmarks.speed.points import GRID, Point
from jlstm.backends.native import libraries
from speeds import SMALL
from speeds import report as speed_report

pytestmark = pytest.mark.no_cover

PASSED, FAILED = Outcome("a", True, "off by 1e-7", 1.0), Outcome("b", False, "off by 1e-3", 1.0)


def script(path, text):
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    """The command ends with one sentence, before it imports JAX or compiles anything."""
    monkeypatch.setattr(ready, "DRIVER", "libno-driver.so")
    assert cli.main([]) == 1
    sentence = "error: there is no NVIDIA GPU here: the CUDA driver cannot be loaded (libno-driver.so"
    assert capsys.readouterr().err.startswith(sentence)
    with pytest.raises(SystemExit):
        cli.main(["--minutes", "0"])
    assert "--minutes must be above 0, got 0.0" in capsys.readouterr().err


def test_what_is_missing_is_named(monkeypatch):
    """Missing packages, a missing compiler and one that fails are a sentence each."""
    monkeypatch.setattr(ready, "find_spec", lambda name: None if name in ("jax", "safetensors") else name)
    with pytest.raises(ready.NotReadyError, match=r'^jax and safetensors, .*: pip install "jax\[cuda13\]" safetensors$'):
        ready.check_packages()
    monkeypatch.setattr(libraries, "sources", lambda folder: "other sources")
    monkeypatch.setenv("CXX", "sh -c 'echo a.cc:1: error: no such thing >&2; exit 1' --")
    with pytest.raises(ready.NotReadyError, match=r"^the C\+\+ compiler cannot compile .*: a.cc:1: error: no such thing$"):
        ready.build()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ready.NotReadyError, match=r"^there is no C\+\+ compiler \(c\+\+, g\+\+, clang\+\+\)"):
        ready.build()


@pytest.mark.slow
def test_the_library_is_compiled_without_cmake(tmp_path):
    """It loads without CUDA, and returns the hash of its sources."""
    target = tmp_path / "library.so"
    subprocess.run([*ready.compile_command("a hash"), "-o", target], check=True)
    assert libraries.call_text_function(ctypes.CDLL(str(target)), "jlstm_gpu_sources") == "a hash"


def test_a_check_fails_with_figures():
    """An error above the tolerance, NaN and another shape are failures of one line."""
    ones = np.ones(3)
    assert cases.verdict({"values": 1e-6}, "; more") == "values off by 1.0e-06; more"
    for error in (3e-6, np.nan):
        with pytest.raises(cases.CheckError, match=r"^values off by .*; at most 2e-06 is right$"):
            cases.verdict({"values": error})
    with pytest.raises(cases.CheckError, match=r"shapes \[\(2,\)\], expected \[\(3,\)\]"):
        cases.error([ones[:2]], [ones])
    assert cases.error({"a": ones, "b": 8 * ones}, {"a": ones, "b": 10 * ones}) == pytest.approx(0.2)
    assert np.isnan(relative_error([np.array([1, np.nan])], [np.array([1, 2])]))
    with pytest.raises(cases.CheckError, match=r"result 2 differs from the first one, 1 numbers by at most 1.0e\+00"):
        checks._same([ones, ones + np.array([0, 0, 1])], "")


def test_a_failing_check_ends_its_process(monkeypatch, capsys):
    """Whatever a check raises is a line, and the checks after it are left to a new process."""

    def fail():
        raise RuntimeError("an illegal\naddress")

    monkeypatch.setattr(checks, "CHECKS", {"a": lambda: "right", "b": fail, "c": lambda: "not reached"})
    checks.main(["a", "b", "c"], sys.stdout)
    lines = [Outcome(**json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    assert [(outcome.passed, outcome.line) for outcome in lines] == [(True, "right"), (False, "RuntimeError: an illegal address")]


def test_checks_that_hang_or_crash_do_not_stop_the_others(tmp_path, monkeypatch):
    """A process that writes nothing is killed, one that ends is started again, and all checks have an outcome."""
    wrapped = json.dumps(PASSED._asdict()).replace('"a"', "\"'$name'\"")
    loop = f"""shift 2
    for name in "$@"; do
        case $name in hangs) exec sleep 60;; crashes) echo a fault >&2; exit 3;; esac
        echo '{wrapped}'
        case $name in stops) exit 0;; esac
    done"""
    monkeypatch.setattr(processes.sys, "executable", script(tmp_path / "python", loop))
    monkeypatch.setattr(processes, "SECONDS", 1.0)
    outcomes = []
    names = ["a", "hangs", "stops", "crashes", "e"]
    assert processes.run(names, time.monotonic() + 60, outcomes.append, title=", twice") == []
    assert [outcome.name for outcome in outcomes] == [f"{name}, twice" for name in names]
    assert [outcome.passed for outcome in outcomes] == [True, False, True, False, True]
    assert outcomes[1].line == "no result in 1 s"
    assert outcomes[3].line == "its process ended with status 3: a fault"
    assert sorted(processes.run(names, time.monotonic() - 1, outcomes.append, at_once=2)) == sorted(names)
    assert len(outcomes) == len(names)


def test_a_process_that_hangs_is_killed_and_revived(monkeypatch):
    """A framework's process has some seconds for an answer. It is started again for the next job."""
    commands = iter([["cat"], ["sh", "-c", "echo {}; cat"]])
    monkeypatch.setattr(pool.Worker, "_start", lambda _: subprocess.Popen(next(commands), stdin=-1, stdout=-1, text=True))
    with pool.Worker("jlstm", 1, gpu=True, seconds=0.5) as worker:
        worker.tell("prepare")
        assert worker.answer() == {"do": "prepare"}
        with pytest.raises(pool.WorkerError, match="jlstm: its process ended with exit status -9"):
            worker.answer()
        assert [worker.ask("prepare") for _ in range(2)] == 2 * [{"do": "prepare"}]


def test_the_sanitizer_is_read(tmp_path, monkeypatch):
    """Its summary and the number of right cases decide. A tool that does not end is a failure."""
    output = "\n".join(['"passed": true'] * len(sanitizer.CASES) + ["========= ERROR SUMMARY: 0 errors"])
    assert sanitizer.verdict("memcheck", output, 0).passed
    assert not sanitizer.verdict("memcheck", output, sanitizer.FOUND).passed
    assert not sanitizer.verdict("memcheck", output.replace("true", "false", 1), 0).passed
    outcome = sanitizer.verdict("racecheck", f"{output}\n========= at {sanitizer.KERNEL}+0x10 in recurrence.cu", 9)
    assert outcome.line == "ERROR SUMMARY: 0 errors; 4 of 4 cases are right; jlstm_kernel is named 1 times"
    assert set(sanitizer.CASES) <= CHECKS.keys()
    script(tmp_path / "compute-sanitizer", """echo '"passed": true'; exec sleep 60""")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert sanitizer.is_installed()
    assert sanitizer.run("memcheck", 0.5).line == "not done in 0 s, after 1 of 4 cases"


@pytest.fixture
def measured():
    """A report of two frameworks and two points of the grid."""
    rows = [(point, job, name, seconds) for job in ("forward", "training") for point, name, seconds in (
        ("small", "torch", 2.0), ("small", "jlstm", 1.0), ("small", "jlstm fused", 3.0), ("small", "jlstm scan", 4.0),
        ("large", "torch", 4.0), ("large", "jlstm", 0.5),
    )]  # fmt: skip
    made = speed_report(*rows, peers=("torch", "jlstm fused", "jlstm scan"), gpu=True)
    made.accuracy["forward"] = {"jlstm": {"small": 5e-7}}
    made.memory["training"] = {"jlstm": {"large": 3_000_000}}
    return made


def test_ratios(measured):
    """The lowest ratio and the geometric mean over the grid, and the better one of XLA's backends."""
    rows = {(row[0], row[1]): row[2:5] for row in report.ratios(measured).rows}
    assert rows["torch / jlstm", "forward"] == ["2.00", "small", "4.00"]
    assert rows["the better of fused and scan / jlstm", "training"] == ["3.00", "small", "3.00"]
    assert ("flax-linen / jlstm", "forward") not in rows


def test_the_page_has_all_of_it(measured, tmp_path):
    """Failures come first, and the tables of times, memory and errors, and the checks follow. The JSON file has it all."""
    results = report.GpuReport("compiled it", {"nvidia-cublas": "13"}, [PASSED, FAILED], [], measured, ["a thing"])
    paths = results.publish(tmp_path / "gpu.json")
    assert [path.name for path in paths] == ["gpu.json", "gpu.md", "gpu.png"]
    text = paths[1].read_text()
    expected = ["1 of 2 checks passed. Compiled it.", "Left out: a thing.", "**b** fails: off by 1e-3", "](gpu.png)"]
    for words in (*expected, "| a | off by 1e-7 | 1.0 |"):
        assert words in text
    assert "## Error against float64, outputs\n\n| batch × time × features × units | jlstm |" in text
    content = json.loads(paths[0].read_text())
    assert content["speed"]["accuracy"] == {"forward": {"jlstm": {"small": 5e-7}}}
    assert content["checks"][1] == FAILED._asdict()
    paths[1].unlink()
    assert cli.main(["--draw", str(paths[0])]) == 0
    assert paths[1].read_text() == text
    assert cli.main(["--draw", str(tmp_path / "none.json")]) == 1


@contextmanager
def no_frameworks(*_, **__):
    """No processes, in the place of `pool.start`."""
    yield {}


@pytest.mark.parametrize("minutes", [5.0, 0.0])
def test_a_run(tmp_path, monkeypatch, capsys, minutes):
    """All checks are run, also in CUDA graphs, and all points are measured. Without time the report says what is missing."""
    ran = []

    def run(names, deadline, add, *, title="", **_):
        if names == [READY] or time.monotonic() < deadline:
            ran.extend(name + title for name in names)
            add(PASSED._replace(name=names[0]))
            return []
        return list(names)

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(pool, "start", no_frameworks)
    monkeypatch.setattr(sanitizer, "is_installed", lambda: False)
    out = tmp_path / "gpu.json"
    assert cli.run(cli.PARTS, out, "built", time.monotonic(), 60 * minutes) == 0
    results = json.loads(out.read_text())
    omitted = "\n".join(results["omitted"])
    assert "compute-sanitizer, which is not on the PATH" in omitted
    if minutes:
        assert set(ran) == {*CHECKS, *(f"{name}, in CUDA graphs" for name in sanitizer.CASES)}
        assert set(results["speed"]["points"]) == {"peak", *GRID, *cli.BESIDES}
        assert "for lack of time" not in omitted
    else:
        assert ran == [READY]
        assert "for lack of time 1 checks: compilation" in omitted
        assert "for lack of time the last 32 jobs of the grid" in omitted
    assert f"wrote {out}" in capsys.readouterr().out
    assert "checks passed" in out.with_suffix(".md").read_text()


@pytest.mark.slow
def test_times_errors_and_memory_are_measured(tmp_path, monkeypatch):
    """On the CPU in the place of a GPU, frameworks compile at the same time, and their rows, errors and memory are written."""
    environment = pool.environment
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(pool, "environment", lambda threads, *, gpu: environment(threads, gpu=False))
    monkeypatch.setattr(points, "GRID", {"2x5x3x4": SMALL["plain"]})
    monkeypatch.setattr(measure, "PEAK", Point(16, 1, 16, (16,), "matrix", "peak"))
    monkeypatch.setattr(cli, "BESIDES", ("small-step",))
    monkeypatch.setattr(cli, "FRAMEWORKS", ("jlstm", "jlstm, no TF32", "flax-linen"))
    results = report.GpuReport()
    cli.measure(results, tmp_path / "gpu.json", time.monotonic() + 600)
    assert results.speed.errors == []
    assert results.omitted == []
    sequences = [(job, name) for job in ("forward", "training") for name in cli.FRAMEWORKS]
    rows = [(row.job, row.framework) for row in results.speed.rows]
    assert set(sequences) <= set(rows)
    for job in ("forward", "training"):
        assert results.speed.memory[job].keys() == set(cli.FRAMEWORKS)
        assert results.speed.memory[job]["flax-linen"]["2x5x3x4"] >= 4 * 2 * 5 * 4
        assert results.speed.accuracy[job].keys() == {"jlstm", "jlstm, no TF32"}
        assert results.speed.accuracy[job]["jlstm"]["2x5x3x4"] < 1e-6
    assert json.loads((tmp_path / "gpu.json").read_text())["speed"]["accuracy"] == results.speed.accuracy


def test_a_kernel_that_is_not_ready_ends_the_run(tmp_path, monkeypatch, capsys):
    """The reason is the last line, and nothing is measured."""
    monkeypatch.setattr(processes, "run", lambda names, deadline, add, **_: add(FAILED._replace(name=READY)) or [])
    assert cli.run(cli.PARTS, tmp_path / "gpu.json", "built", time.monotonic(), 60) == 1
    assert capsys.readouterr().err == "error: the kernel cannot run here: off by 1e-3\n"
    assert not any(tmp_path.iterdir())  # older results are kept


@pytest.mark.loose
@pytest.mark.parametrize(("name", "least", "most"), [("jlstm", 1e-9, 2e-6), ("jlstm bfloat16", 1e-4, 5e-2)])
def test_errors_and_memory_of_a_job(name, least, most):
    """A job compares its result with float64, and knows the bytes of its results."""
    framework, point = FRAMEWORKS[name], SMALL["plain"]
    module, _ = frameworks.load(name)
    job = module.build(point, Setting(1, framework.variant, dtype=framework.dtype))["training"]
    job()
    assert least < job.error() < most
    assert job.memory() >= 4 * (3 + 4 + 1) * 16 / (1 if name == "jlstm" else 2)


@pytest.mark.slow
@pytest.mark.loose
def test_errors_of_pytorch(monkeypatch):
    """PyTorch is compared with itself in float64, also where sequences are packed. Without a GPU it runs on the CPU."""
    torch = pytest.importorskip("torch")
    module, _ = frameworks.load("torch")
    monkeypatch.setattr(torch, "device", lambda name: "cpu")
    for function in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, function, lambda: None)
    for name, form, most in (("torch", "ragged", 1e-6), ("torch bfloat16", "bidirectional", 5e-2)):
        setting = Setting(1, FRAMEWORKS[name].variant, gpu=True, dtype=FRAMEWORKS[name].dtype)
        for job in module.build(SMALL[form], setting).values():
            assert 1e-9 < job.error() < most


def test_every_framework_is_known():
    """The frameworks of the command are those of the benchmark, with their dtype and what they run on."""
    assert all("gpu" in FRAMEWORKS[name].on for name in cli.FRAMEWORKS)
    assert FRAMEWORKS["torch float16"].dtype == "float16"
    assert not any(FRAMEWORKS[name].peer for name in frameworks.ARITHMETIC)
    assert {name for pair in report.RATIOS for name in pair} <= set(cli.FRAMEWORKS)
    assert measure.SHORT.together
