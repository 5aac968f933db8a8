"""The diagnosis of other cells: what it finds, and what it says where it knows no faults."""

from dataclasses import replace

import numpy as np
import pytest

from family import CELLS
from jlstm import RNN, Bidirectional
from parity import Problem, diagnose
from parity.quantities import truth
from parity.values import draw

pytestmark = pytest.mark.no_cover

SEARCHED = {
    "peephole": "ifgo",
    "projection with all": "ifgo",
    "cell clip": "ifgo",
    "f coupled": "igo",
    "i coupled": "fgo",
    "GRU": "zrg",
    "GRU as published": "zrg",
    "dropout of three gates": "igo",
}


@pytest.mark.table(quick=4)
@pytest.mark.parametrize("name", SEARCHED)
def test_swapped_gates_are_found_in_every_variant(name):
    """Swapped gates are named as the cell names them."""
    names, problem = SEARCHED[name], Problem(RNN(CELLS[name]), dtype="float64", mask="right")
    values = draw(problem)
    order = [1, 0, *range(2, len(names))]
    swapped = {
        key: np.concatenate([np.split(value, len(names), -1)[k] for k in order], -1) if key in MATRICES else value
        for key, value in values.params.items()
    }
    diagnosis = diagnose(problem, truth(problem, values._replace(params=swapped)))
    assert diagnosis.causes[0] == f"matches if the {names[0]} and {names[1]} gates are swapped"
    assert diagnosis.by_gate["d_params.kernel"].keys() == set(names)


MATRICES = ("kernel", "recurrent_kernel", "bias")


@pytest.mark.table(quick=2)
@pytest.mark.parametrize(("name", "carry"), [("GRU", True), ("projection", False), ("i coupled", True), ("GRU", False)])
def test_faults_that_a_cell_cannot_have_are_left_out(name, carry):
    """No fault that the cell cannot have breaks the search or is reported, in two directions, with or without a carry."""
    problem = Problem(Bidirectional(RNN(CELLS[name])), dtype="float64", time=3, mask="holes", initial_carry=carry)
    right = truth(problem, draw(problem))
    diagnosis = diagnose(problem, {"ys": right["ys"] ** 2})
    assert diagnosis.headline == "nothing that was tried explains the difference"


@pytest.mark.parametrize("name", ["ConvLSTM 1-D", "ConvLSTM 2-D, valid", "ConvLSTM 3-D"])
def test_a_cell_without_known_faults_is_named(name):
    """The diagnosis still tells where results and gradients differ."""
    problem = Problem(RNN(CELLS[name]), dtype="float64", mask="right")
    right = truth(problem, draw(problem))
    diagnosis = diagnose(problem, right | {"ys": right["ys"][:, ::-1]})
    assert diagnosis.headline == "no faults of ConvLSTMCell are known, so that none was tried"
    assert diagnosis.worst.quantity == "ys"
    assert diagnosis.growth is not None
    padded = np.where(np.arange(problem.time) >= problem.time - 2, 1.0, 0.0).reshape(1, -1, *[1] * (right["ys"].ndim - 2))
    assert diagnose(problem, right | {"ys": right["ys"] + padded * (right["ys"] == 0)}).causes == ("only padded steps differ",)
    assert diagnose(problem, right | {"d_xs": -right["d_xs"]}).headline == "the outputs agree, but d_xs is of the opposite sign"


def test_a_layer_that_the_textbook_does_not_know_is_not_searched():
    """One sentence says so, where results of a converted model are explained."""
    from parity.diagnosis.search import untried

    layer = replace(RNN(CELLS["LSTM"]), cell=CELLS["ba2016"])
    assert untried(layer).startswith("the textbook does not know RNN(cell=LSTMCell(units=4, peephole=True")
    assert not untried(RNN(CELLS["GRU"]))
