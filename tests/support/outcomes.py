"""Outcomes as `python -m parity` would make them, without running a framework, for the tests of the reports."""

import numpy as np

from jlstm import LSTM
from parity import Problem, report, table
from parity.diagnosis import explain
from parity.measure import Comparison, judge
from parity.quantities import truth
from parity.values import draw


def outcome(name, dtype, off, *, peer="keras", of_peer=False, known_bug="", time=6):
    """Return a case in which one side is off by some factor of the dtype's spacing, which grows with time."""
    problem = Problem(LSTM(4), dtype=dtype, time=time)
    values = draw(problem)
    right = truth(problem, values)
    eps = {"float64": 2**-52, "float32": 2**-23, "bfloat16": 2**-7}[dtype]
    steps = np.linspace(0.1, 1, time)[None, :, None]
    wrong = right | {"ys": right["ys"] + off * eps * steps}
    near = right | {"ys": right["ys"] + eps / 4}
    sides = (near, wrong) if of_peer else (wrong, near)
    quantities = judge(right, *sides, dtype=dtype, time=time)
    comparison = Comparison(peer, dtype, quantities)
    if comparison.verdict != "pass":
        comparison = Comparison(peer, dtype, quantities, explain(problem, values, right, wrong))
    return report.Outcome(table.Case(name, problem, peer, known_bug), comparison)


def several():
    """Return two cases that pass, one that fails and one known bug, in an order that no sort gives."""
    return [
        outcome("lstm right", "float32", 0.5),
        outcome("stack2 <b>bold</b> & wrong", "float64", 1e9),
        outcome("lstm known", "float64", 1e8, of_peer=True, known_bug="theirs since 3.15", peer="other"),
        outcome("lstm long", "bfloat16", 2.0, time=40),
    ]
