"""Small grid points and reports for the tests of the speed benchmarks."""

from benchmarks.speed import figures
from benchmarks.speed.points import Point

SMALL = {
    "plain": Point(2, 5, 3, (4,)),
    "ragged": Point(2, 5, 3, (4,), "ragged", "besides"),
    "bidirectional": Point(2, 5, 3, (4,), "bidirectional", "besides"),
    "two-layers": Point(2, 5, 3, (4, 6), "plain", "besides"),
    "step": Point(1, 1, 3, (4,), "step", "besides"),
}


def report(*rows, peers=("torch", "flax-linen"), **overrides):
    """Return a report with medians of three rounds, one of which took half as long again. Its points belong to the grid."""
    names = dict.fromkeys(point for point, *_ in rows)
    frameworks = {name: {"version": "1", "ours": name == "jlstm", "peer": name in peers} for name in ("jlstm", *peers)}
    contents = {
        "command": "python -m benchmarks",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"processor": "a processor"},
        "versions": {"jax": "1"},
        "threads": 2,
        "gpu": False,
        "notes": {"median": "of the rounds"},
        "frameworks": frameworks,
        "memory": {},
        "errors": [],
    }
    contents["points"] = {name: point(4, 10, 3, (5,)) for name in names}
    contents["rows"] = [row(*fields) for fields in rows]
    return contents | overrides


def point(*sizes, **options):
    """Return a grid point as a report stores it."""
    grid_point = Point(*sizes, **options)
    return grid_point._asdict() | {"flops": {job: grid_point.flops(job) for job in grid_point.jobs}}


def row(where, job, framework, seconds):
    """Return the measurements of one framework."""
    rounds = [{"calls": 3, "median": factor * seconds, "lowest": seconds} for factor in (1.5, 1, 1)]
    row_fields = {"point": where, "job": job, "framework": framework, "rounds": rounds, "first_seconds": 2.0}
    return row_fields | figures.summary(row_fields)
