"""Small points and reports for the tests of the speed benchmarks."""

from benchmarks.machine import Machine
from benchmarks.speed.points import Point
from benchmarks.speed.report import FrameworkInfo, Plan, Report, Round, Row

SMALL = {
    "plain": Point(2, 5, 3, (4,)),
    "ragged": Point(2, 5, 3, (4,), "ragged", "besides"),
    "bidirectional": Point(2, 5, 3, (4,), "bidirectional", "besides"),
    "two-layers": Point(2, 5, 3, (4, 6), "plain", "besides"),
    "gru": Point(2, 5, 3, (4,), "plain", "besides", "gru"),
    "peephole": Point(2, 5, 3, (4,), "plain", "besides", "peephole"),
    "projection": Point(2, 5, 3, (4,), "plain", "besides", "projection"),
    "step": Point(1, 1, 3, (4,), "step", "besides"),
}


def report(*rows, peers=("torch", "flax-linen"), **fields):
    """A report with medians, each from three rounds of which one took half as long again; its points are of the grid."""
    names = dict.fromkeys(point for point, *_ in rows)
    defaults = {
        "command": "python -m benchmarks",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": Machine("a system", "a processor", 2, 8_000_000_000),
        "versions": {"jax": "1"},
        "threads": 2,
        "gpu": False,
        "environment": {},
        "plan": Plan(3, 0.0),
        "load_before": 0.0,
        "notes": {"median": "of the rounds"},
        "frameworks": {name: FrameworkInfo("1", name == "jlstm", name in peers) for name in ("jlstm", *peers)},
        "points": {name: Point(4, 10, 3, (5,)) for name in names},
        "rows": [row(*times) for times in rows],
    }
    return Report(**defaults | fields)


def row(point, job, framework, seconds):
    """What was measured of one framework."""
    rounds = [Round(calls=3, median=factor * seconds, lowest=seconds) for factor in (1.5, 1, 1)]
    return Row(point, job, framework, 0.0, 2.0, 1, rounds, 0.0)
