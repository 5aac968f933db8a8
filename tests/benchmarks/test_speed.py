"""The speed benchmarks: what is counted and compared is right, and a run of small sizes measures what it says."""

import json
import math

import numpy as np
import pytest

from benchmarks.speed import cli, figures, page, pool, tables
from benchmarks.speed.points import BESIDES, GRID, LONG, POINTS, QUICK, Point
from benchmarks.speed.report import Report
from speeds import SMALL, report, row


def test_the_grid_is_frozen():
    """The means are over ten points of the group "grid". All other points have another group, and names tell the sizes."""
    assert len(GRID) == 10
    assert {point.group for point in GRID.values()} == {"grid"}
    assert all(point.group != "grid" for point in (BESIDES | LONG).values())
    assert GRID["16x100x128x1024"] == Point(16, 100, 128, (1024,))
    assert [point.time for point in LONG.values()] == [100, 1_000, 10_000, 100_000]
    assert set(QUICK) <= POINTS.keys()


def test_operations_are_those_of_the_products():
    """Counts equal those by hand. Training adds the products for both weights, for h, and for the outputs of a lower layer."""
    plain = SMALL["plain"]
    assert plain.flops("forward") == 2 * 10 * 16 * (3 + 4)
    assert plain.flops("training") == 2 * 10 * 16 * ((3 + 4) + (3 + 4) + 4)
    assert SMALL["bidirectional"].flops("training") == 2 * plain.flops("training")
    second = 2 * 10 * 24 * (4 + 6)
    assert SMALL["two-layers"].flops("forward") == plain.flops("forward") + second
    assert SMALL["two-layers"].flops("training") == plain.flops("training") + 3 * second
    ragged = SMALL["ragged"]
    assert ragged.flops("forward") == 2 * int(ragged.lengths.sum()) * 16 * (3 + 4)
    assert SMALL["gru"].flops("training") == plain.flops("training") * 3 // 4
    assert SMALL["peephole"].flops("training") == plain.flops("training")  # the products of peepholes are element-wise
    projection = SMALL["projection"]  # of 4 units to 2 numbers
    assert projection.flops("forward") == 2 * 10 * (16 * (3 + 2) + 4 * 2)
    assert projection.flops("training") == 2 * 10 * (16 * ((3 + 2) + (3 + 2) + 2) + 3 * 4 * 2)
    assert Point(2, 1, 3, (4,), "matrix").flops("product") == 2 * 2 * 3 * 4
    assert SMALL["step"].flops("step") is None


def test_ragged_lengths_are_the_same_for_all_and_reach_from_one_to_all_steps():
    """The first sequence has all steps. Some frameworks would shorten a batch without such a sequence, and others would not."""
    lengths = BESIDES["ragged"].lengths
    np.testing.assert_array_equal(lengths, BESIDES["ragged"].lengths)
    assert lengths.max() == lengths[0] == 200
    assert 1 <= lengths.min() < 50


def test_points_survive_json():
    """A point that goes to a worker as JSON comes back equal."""
    for made in POINTS.values():
        again = Point.of(json.loads(json.dumps(made.to_json())))
        assert again == made
        assert again.flops(made.jobs[0]) == made.flops(made.jobs[0])


def test_spread_and_means():
    """A row has the median and the extremes of its rounds. The geometric mean of a ratio and its inverse is one."""
    times = row("a", "forward", "jlstm", 2.0)
    assert (times.median, times.low, times.high) == (2.0, 2.0, 3.0)
    assert figures.geometric_mean([4, 9]) == pytest.approx(6)
    assert figures.geometric_mean([0.25, 4]) == pytest.approx(1)
    assert figures.geometric_mean([]) is None


def test_ratio_is_against_the_fastest_peer_at_each_point():
    """Each point has its own fastest peer, and the mean is over the points of the grid only."""
    rows = [("a", "forward", "jlstm", 2.0), ("a", "forward", "torch", 8.0), ("a", "forward", "flax-linen", 16.0)]
    rows += [("b", "forward", "jlstm", 3.0), ("b", "forward", "torch", 9.0), ("b", "forward", "flax-linen", 3.0)]
    made = report(*rows, ("c", "forward", "jlstm", 1.0), ("c", "forward", "torch", 100.0))
    made.points["c"] = made.points["c"]._replace(group="besides")
    assert figures.fastest_peer(made, "a", "forward") == ("torch", 8.0)
    assert figures.ratio(made, "a", "forward") == 4
    assert figures.ratio(made, "b", "forward") == 1
    assert figures.mean_ratio(made, "forward") == pytest.approx(2)
    assert figures.relative(made, "forward", "torch") == pytest.approx(math.sqrt(12))
    assert figures.mean_ratio(made, "training") is None


def test_rate_and_peak():
    """A rate is operations over seconds, and the peak is the rate of the fastest matrix product."""
    made = report(("a", "forward", "jlstm", 0.5), ("peak", "product", "jlstm", 4.0), ("peak", "product", "torch", 2.0))
    made.points["peak"] = Point(10, 1, 10, (10,), form="matrix", group="peak")
    assert figures.peak(made) == 1000
    assert figures.rate(made, made.rows[0]) == 2 * 40 * 20 * (3 + 5) / 0.5
    assert figures.peak(report(("a", "forward", "jlstm", 0.5))) is None


def test_two_reports_are_compared_where_they_have_the_same_sizes():
    """A ratio is old over new time. A point with other sizes and a framework that is only in one report are left out."""
    old = report(("a", "forward", "jlstm", 6.0), ("a", "forward", "torch", 1.0), ("b", "forward", "jlstm", 1.0))
    new = report(("a", "forward", "jlstm", 2.0), ("a", "forward", "flax-linen", 2.0), ("b", "forward", "jlstm", 1.0))
    new.points["b"] = new.points["b"]._replace(time=11)
    assert figures.compared(Report.of(json.loads(json.dumps(old.to_json()))), new) == [("a", "forward", {"jlstm": 3.0})]
    sheet = tables.comparison(old, new)
    assert sheet.rows[1:] == [["a forward", "3.00"], ["geometric mean, forward", "3.00"]]


def test_tables_say_what_was_measured():
    """Times are in milliseconds with three digits, the last row has means, and long sequences have a table of their own."""
    rows = [
        ("a", job, name, seconds) for job in ("forward", "training") for name, seconds in (("jlstm", 0.002), ("torch", 0.0062))
    ]
    made = report(*rows, ("T10", "forward", "jlstm", 1e-5))
    made.points["T10"] = made.points["T10"]._replace(group="long")
    made.memory["forward"] = {"jlstm": {"a": 1_234_567}, "torch": {"a": 2_000_000}}
    forward, training, memory, long = tables.sheets(made)
    assert forward.rows[1:] == [
        ["4×10×3×5", "2.00", "6.20", "torch", "3.10"],
        ["grid, over jlstm's time", "1.00", "3.10", "", "3.10"],
    ]
    assert training.rows == forward.rows
    assert memory.rows == [["batch × time × features × units", "jlstm", "torch"], ["4×10×3×5", "1.2", "2.0"]]
    assert long.rows == [["time", "jlstm, µs a step", "jlstm, first call, s"], ["10", "1.00", "2.00"]]
    assert tables.details(made).rows[1] == ["a", "forward", "jlstm", "2.00", "2.00–3.00", "0.00640", "", "2.00"]
    text = page.markdown(made, "speed.png")
    step = tables.sheets(report(("a", "step", "jlstm", 3e-5), ("a", "empty", "jlstm", 2e-5)))[0]
    assert step.rows[1:] == [
        ["3×5", "jlstm", "30.0", "30.0–45.0", "1.50"],
        ["3×5", "an empty call", "20.0", "20.0–30.0", "1.00"],
    ]
    assert "| a | forward | torch | 6.20 | 6.20–9.30 |" in text
    assert "a processor, 2 threads, float32, 2026-01-02. jax 1." in text


def test_comparing_two_files_measures_nothing(tmp_path, capsys, monkeypatch):
    """The command prints the times of the first file over those of the second, and starts no process."""
    monkeypatch.setattr(pool, "start", None)
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    for path, seconds in zip(paths, (3.0, 2.0), strict=True):
        page.write(path, report(("a", "forward", "jlstm", seconds)))
    assert cli.main(["--compare", *map(str, paths)]) == 0
    assert "1.50" in capsys.readouterr().out
