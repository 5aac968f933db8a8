"""A diagnosis tells where, when and in which gates the results differ, and handles gradients, NaN and missing quantities."""

import numpy as np
import pytest

from parity import diagnose
from parity.quantities import truth
from parity.values import draw
from planted_faults import right, small_problem

pytestmark = pytest.mark.xdist_group("tensorflow")


def test_the_facts_name_the_element_and_the_step():
    """Batch, time and unit of the worst element are told with both values, and the first step."""
    problem = small_problem()
    correct = truth(problem, draw(problem))
    ys = correct["ys"].copy()
    ys[1, 4, 2] += 0.5
    diagnosis = diagnose(problem, {"ys": ys})
    assert diagnosis.worst.index == {"batch": 1, "time": 4, "unit": 2}
    assert diagnosis.worst.got - diagnosis.worst.expected == pytest.approx(0.5)
    assert str(diagnosis.worst).startswith("ys at batch 1, time 4, unit 2: ")
    assert str(diagnosis.growth) == "difference starts at step 4 and is at that step alone"
    assert diagnosis.headline == "nothing that was tried explains the difference"


def test_the_error_is_told_by_gate():
    """The error of each gate is told for a gradient that is wrong in one gate's columns."""
    problem = small_problem()
    correct = truth(problem, draw(problem))
    kernel = correct["d_params.kernel"].copy()
    kernel[2, 9] += 1
    diagnosis = diagnose(problem, correct | {"d_params.kernel": kernel})
    assert diagnosis.worst.index == {"row": 2, "gate": "g", "unit": 1}
    errors = diagnosis.by_gate["d_params.kernel"]
    assert [errors[gate] > 0 for gate in "ifgo"] == [False, False, True, False]
    assert "error by gate of d_params.kernel: i 0, f 0, g " in str(diagnosis)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("d_xs", lambda leaf: leaf[:, ::-1], "d_xs is reversed in time"),
        ("d_xs", np.zeros_like, "d_xs is zero"),
        ("d_params.bias", lambda leaf: 2 * leaf, "d_params.bias is 2 times the right one"),
        ("d_params.kernel", np.negative, "d_params.kernel is of the opposite sign"),
        (
            "d_params.recurrent_kernel",
            lambda leaf: leaf[:, [*range(4), *range(8, 12), *range(4, 8), *range(12, 16)]],
            "d_params.recurrent_kernel is right if the f and g gates are swapped",
        ),
        ("d_carry.h", lambda leaf: leaf[:, :1], "d_carry.h is of shape (2, 1) instead of (2, 4)"),
    ],
)
def test_a_wrong_gradient_is_described(name, change, says):
    """The gradient is described where the outputs agree."""
    problem = small_problem()
    correct = truth(problem, draw(problem))
    (cause,) = diagnose(problem, correct | {name: change(correct[name])}).causes
    assert cause == f"the outputs agree, but {says}"


def test_right_results_have_no_diagnosis():
    """The results of Keras and ours differ only by rounding."""
    assert diagnose(small_problem(), right(small_problem())).headline == "no difference but rounding"
    assert (
        diagnose(small_problem(dtype="bfloat16"), right(small_problem(dtype="bfloat16"))).headline == "no difference but rounding"
    )


def test_nan_is_said_to_be_nan():
    """Results with NaN are called not finite, and are not searched."""
    problem = small_problem()
    diagnosis = diagnose(problem, {"ys": np.full((2, 6, 4), np.nan)})
    assert diagnosis.headline == "the results are not finite"


@pytest.mark.parametrize(
    ("theirs", "message"),
    [({}, "theirs must have some of the quantities carry.h, .* ys, got none"), ({"y": np.ones(1)}, "got 'y'")],
)
def test_quantities_that_are_none_are_refused(theirs, message):
    """Unknown quantities are refused in one sentence that names the known ones."""
    with pytest.raises(ValueError, match=message):
        diagnose(small_problem(), theirs)
