"""The speed benchmarks: what is counted and compared is right, and a run of small sizes measures what it says."""

import json
import math

import numpy as np
import pytest

from benchmarks.speed import cli, figures, frameworks, measure, memory, page, pool, tables, worker
from benchmarks.speed.frameworks import FRAMEWORKS, Setting
from benchmarks.speed.points import BESIDES, GRID, LONG, POINTS, QUICK, Point
from benchmarks.speed.pool import WorkerError

SMALL = {
    "plain": Point(2, 5, 3, (4,)),
    "ragged": Point(2, 5, 3, (4,), "ragged", "besides"),
    "bidirectional": Point(2, 5, 3, (4,), "bidirectional", "besides"),
    "two-layers": Point(2, 5, 3, (4, 6), "plain", "besides"),
    "step": Point(1, 1, 3, (4,), "step", "besides"),
}


def report(*rows, peers=("torch", "flax-linen"), **more):
    """A report with medians, each from three rounds of which one took half as long again; its points are of the grid."""
    names = dict.fromkeys(point for point, *_ in rows)
    known = {name: {"version": "1", "ours": name == "jlstm", "peer": name in peers} for name in ("jlstm", *peers)}
    made = {
        "command": "python -m benchmarks",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"processor": "a processor"},
        "versions": {"jax": "1"},
        "threads": 2,
        "gpu": False,
        "notes": {"median": "of the rounds"},
        "frameworks": known,
        "errors": [],
    }
    made["points"] = {name: point(4, 10, 3, (5,)) for name in names}
    made["rows"] = [row(*each) for each in rows]
    return made | more


def point(*sizes, **more):
    """A point as it is written."""
    made = Point(*sizes, **more)
    return made._asdict() | {"flops": {job: made.flops(job) for job in made.jobs}}


def row(where, job, framework, seconds):
    """What was measured of one framework."""
    rounds = [{"calls": 3, "median": factor * seconds, "lowest": seconds} for factor in (1.5, 1, 1)]
    made = {"point": where, "job": job, "framework": framework, "rounds": rounds, "first_seconds": 2.0, "peak_bytes": None}
    return made | figures.summary(made)


def test_the_grid_is_frozen():
    """Ten points, of which the means are made; the others are of other groups, and all names lead to their sizes."""
    assert len(GRID) == 10
    assert {point.group for point in GRID.values()} == {"grid"}
    assert all(point.group != "grid" for point in (BESIDES | LONG).values())
    assert GRID["16x100x128x1024"] == Point(16, 100, 128, (1024,))
    assert [point.time for point in LONG.values()] == [100, 1_000, 10_000, 100_000]
    assert set(QUICK) <= POINTS.keys()


def test_operations_are_those_of_the_products():
    """Counted by hand: both products forwards; backwards those of both weights and of h, and of a lower layer's outputs."""
    plain = SMALL["plain"]
    assert plain.flops("forward") == 2 * 10 * 16 * (3 + 4)
    assert plain.flops("training") == 2 * 10 * 16 * ((3 + 4) + (3 + 4) + 4)
    assert SMALL["bidirectional"].flops("training") == 2 * plain.flops("training")
    second = 2 * 10 * 24 * (4 + 6)
    assert SMALL["two-layers"].flops("forward") == plain.flops("forward") + second
    assert SMALL["two-layers"].flops("training") == plain.flops("training") + 3 * second
    ragged = SMALL["ragged"]
    assert ragged.flops("forward") == 2 * int(ragged.lengths.sum()) * 16 * (3 + 4)
    assert Point(2, 1, 3, (4,), "matrix").flops("product") == 2 * 2 * 3 * 4
    assert SMALL["step"].flops("step") is None


def test_ragged_lengths_are_the_same_for_all_and_reach_from_one_to_all_steps():
    """As a batch without a sequence of the full length would be narrower in some frameworks than in others."""
    lengths = BESIDES["ragged"].lengths
    np.testing.assert_array_equal(lengths, BESIDES["ragged"].lengths)
    assert lengths.max() == lengths[0] == 200
    assert 1 <= lengths.min() < 50


def test_points_survive_json():
    """A worker gets the point that the parent has."""
    for made in POINTS.values():
        again = Point.of(json.loads(json.dumps(made._asdict())))
        assert again._replace(units=tuple(again.units)) == made
        assert again.flops(made.jobs[0]) == made.flops(made.jobs[0])


def test_spread_and_means():
    """The median of the rounds with the extremes; a geometric mean of ratios, which of a ratio and its inverse is one."""
    assert figures.summary(row("a", "forward", "jlstm", 2.0)) == {"median": 2.0, "low": 2.0, "high": 3.0}
    assert figures.geometric_mean([4, 9]) == pytest.approx(6)
    assert figures.geometric_mean([0.25, 4]) == pytest.approx(1)
    assert figures.geometric_mean([]) is None


def test_ratio_is_against_the_fastest_peer_at_each_point():
    """Another peer is the fastest at the other point; what is not of the grid is not in the mean."""
    rows = [("a", "forward", "jlstm", 2.0), ("a", "forward", "torch", 8.0), ("a", "forward", "flax-linen", 16.0)]
    rows += [("b", "forward", "jlstm", 3.0), ("b", "forward", "torch", 9.0), ("b", "forward", "flax-linen", 3.0)]
    made = report(*rows, ("c", "forward", "jlstm", 1.0), ("c", "forward", "torch", 100.0))
    made["points"]["c"]["group"] = "besides"
    assert figures.fastest_peer(made, "a", "forward") == ("torch", 8.0)
    assert figures.ratio(made, "a", "forward") == 4
    assert figures.ratio(made, "b", "forward") == 1
    assert figures.mean_ratio(made, "forward") == pytest.approx(2)
    assert figures.relative(made, "forward", "torch") == pytest.approx(math.sqrt(12))
    assert figures.mean_ratio(made, "training") is None


def test_rate_and_peak():
    """Operations over seconds; the peak is that of the fastest matrix product."""
    made = report(("a", "forward", "jlstm", 0.5), ("peak", "product", "jlstm", 4.0), ("peak", "product", "torch", 2.0))
    made["points"]["peak"] = point(10, 1, 10, (10,), form="matrix", group="peak")
    assert figures.peak(made) == 1000
    assert figures.rate(made, made["rows"][0]) == 2 * 40 * 20 * (3 + 5) / 0.5
    assert figures.peak(report(("a", "forward", "jlstm", 0.5))) is None


def test_two_reports_are_compared_where_they_have_the_same_sizes():
    """Old over new; a point that was given other sizes, or a framework that is new, is left out."""
    old = report(("a", "forward", "jlstm", 6.0), ("a", "forward", "torch", 1.0), ("b", "forward", "jlstm", 1.0))
    new = report(("a", "forward", "jlstm", 2.0), ("a", "forward", "flax-linen", 2.0), ("b", "forward", "jlstm", 1.0))
    new["points"]["b"]["time"] = 11
    assert figures.compared(json.loads(json.dumps(old)), new) == [("a", "forward", {"jlstm": 3.0})]
    sheet = tables.comparison(old, new)
    assert sheet.rows[1:] == [["a forward", "3.00"], ["geometric mean, forward", "3.00"]]


def test_tables_say_what_was_measured():
    """In milliseconds with three digits; the last row has means; of long sequences the cost of a step and of the first call."""
    rows = [
        ("a", job, name, seconds) for job in ("forward", "training") for name, seconds in (("jlstm", 0.002), ("torch", 0.0062))
    ]
    made = report(*rows, ("T10", "forward", "jlstm", 1e-5))
    made["points"]["T10"]["group"] = "long"
    forward, training, long = tables.sheets(made)
    assert forward.rows[1:] == [
        ["4×10×3×5", "2.00", "6.20", "torch", "3.10"],
        ["grid, over jlstm's time", "1.00", "3.10", "", "3.10"],
    ]
    assert training.rows == forward.rows
    assert long.rows == [["time", "jlstm, µs a step", "jlstm, first call, s"], ["10", "1.00", "2.00"]]
    assert tables.details(made).rows[1] == ["a", "forward", "jlstm", "2.00", "2.00–3.00", "0.00640", "", "2.00", ""]
    text = page.markdown(made, "speed.png")
    assert "| a | forward | torch | 6.20 | 6.20–9.30 |" in text
    assert "a processor, 2 threads, float32, 2026-01-02. jax 1." in text


def test_comparing_two_files_measures_nothing(tmp_path, capsys, monkeypatch):
    """The times of the first over those of the second."""
    monkeypatch.setattr(pool, "start", None)
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    for path, seconds in zip(paths, (3.0, 2.0), strict=True):
        page.write(path, report(("a", "forward", "jlstm", seconds)))
    assert cli.main(["--compare", *map(str, paths)]) == 0
    assert "1.50" in capsys.readouterr().out


@pytest.mark.loose
@pytest.mark.parametrize("name", ["jlstm", "flax-linen", "flax-nnx"])
@pytest.mark.parametrize("form", ["bidirectional", "ragged", "step"])
def test_frameworks_compute_all_of_it(name, form):
    """Every output comes back, of which padding's are zero, and one gradient a parameter, and none for the inputs."""
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


def test_memory_grows_by_what_is_held():
    """Forty million bytes show in what is resident, and in a peak that began before."""
    if not memory.forget_peak() or (before := memory.resident()) is None:
        pytest.skip("this system does not tell")
    held = np.ones(5_000_000)
    assert memory._status("VmRSS") - before > 0.8 * held.nbytes
    assert memory.peak() - before > 0.8 * held.nbytes


def test_a_run_of_processes(tmp_path, capsys, monkeypatch):
    """Ours and one peer, at a point of the grid and at others: rows, page and picture, which are the same made anew."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compile fast rather than well
    monkeypatch.setattr(cli, "POINTS", {"2x5x3x4": SMALL["plain"], "step": SMALL["step"]})
    monkeypatch.setattr(frameworks, "OURS", {"jlstm": FRAMEWORKS["jlstm"]})
    monkeypatch.setattr(measure, "PEAK", Point(16, 1, 16, (16,), "matrix", "peak"))
    monkeypatch.setattr(measure, "FULL", measure.Plan(2, 0.001))
    out = tmp_path / "new" / "speed.json"
    assert cli.main(["--peers", "flax-linen", "--threads", "1", "--out", str(out)]) == 0
    made = page.read(out)
    assert list(made["frameworks"]) == ["jlstm", "flax-linen", "numpy"]
    assert made["errors"] == []
    assert made["versions"].keys() >= {"jax", "flax", "python"}
    for where, job in (("2x5x3x4", "forward"), ("2x5x3x4", "training")):
        assert list(figures.times(made, where, job)) == ["jlstm", "flax-linen"]
    assert list(figures.times(made, "step", "step")) == ["jlstm", "flax-linen"]
    assert list(figures.times(made, "step", "empty")) == ["jlstm"]
    for each in made["rows"]:
        assert 0 < each["low"] <= each["median"] <= each["high"] < each["first_seconds"] + 60
        assert [turn["calls"] > 0 for turn in each["rounds"]] == [True] * 2
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


def test_a_peer_that_cannot_be_imported(monkeypatch, capsys):
    """Is left out with a line, and ends the run if it was asked for."""
    answers = {"numpy": {"not_importable": "No module named 'numpy'"}}
    monkeypatch.setattr(pool.Worker, "answer", lambda self: answers[self.name])
    with pool.start(["numpy"], [], 1, gpu=False) as workers:
        assert workers == {}
    assert capsys.readouterr().out == "left out: numpy (No module named 'numpy')\n"
    with pytest.raises(WorkerError, match=r"numpy cannot be imported \(No module named 'numpy'\): pip install"):
        pool.start(["numpy"], ["numpy"], 1, gpu=False).__enter__()


def test_a_peer_that_cannot_do_a_small_problem(monkeypatch, capsys):
    """The same; the line has the framework's own words."""
    monkeypatch.setattr(pool, "WARM", SMALL["plain"]._replace(units=(-4,)))
    with pool.start(["flax-linen"], [], 1, gpu=False) as workers:
        assert workers == {}
    assert capsys.readouterr().out.startswith("left out: flax-linen: ")
    with pytest.raises(WorkerError, match="a small problem already fails on this device: flax-linen: "):
        pool.start(["flax-linen"], ["flax-linen"], 1, gpu=False).__enter__()


def test_what_fails_is_told_and_the_others_go_on():
    """A job that raises, and one whose result is too small, are errors of the report; both leave no row."""

    class Failing:
        def ask(self, do, **more):
            raise WorkerError("torch: RuntimeError: no")

    class Lazy:
        def ask(self, do, **more):
            return {"values": 1, "build_seconds": 1.0, "first_seconds": 1.0, "peak_bytes": None}

    class Honest(Lazy):
        def ask(self, do, **more):
            return super().ask(do) | {"values": 40} if do == "prepare" else {"calls": 1, "median": 1.0, "lowest": 1.0}

    made = report(points={}, rows=[])
    workers = {"torch": Failing(), "haiku": Lazy(), "jlstm": Honest()}
    rows = measure._job(made, "a", SMALL["plain"], "forward", workers, measure.Plan(3, 0.0))
    assert [(row["framework"], len(row["rounds"])) for row in rows] == [("jlstm", 3)]
    assert made["errors"] == [
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
    """Before anything runs."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_a_file_that_is_no_report_is_told(tmp_path, capsys):
    """That there is none, or that it is something else."""
    assert cli.main(["--draw", str(tmp_path / "none.json")]) == 1
    (other := tmp_path / "other.json").write_text("{}")
    assert cli.main(["--compare", str(other), str(other)]) == 1
    error = capsys.readouterr().err
    assert "there is no file" in error
    assert "other.json is no report of python -m benchmarks" in error
