"""Every valid pair of options of GRU, Elman, ConvLSTM, sLSTM and mLSTM, in at least one row, against NumPy."""

from dataclasses import replace
from functools import partial
from itertools import combinations, product

import jax
import numpy as np
import pytest

from equations import elman, mlstm, slstm
from jlstm import RNN, ConvLSTMCell, ElmanCell, GRUCell, MLSTMCell, SLSTMCell
from parity import textbook
from parity.covering import covering, pairs
from problems import UNITS, assert_close, assert_slopes, cotangent_of, differentiate_drawn, small_problem

pytestmark = pytest.mark.no_cover

GATED = {
    "activation": ("tanh", "relu"),
    "recurrent_activation": ("sigmoid", "hard_sigmoid"),
    "use_bias": (True, False),
    "dropout": (0.0, 0.3),
    "recurrent_dropout": (0.0, 0.4),
}
EXPONENTIAL = {"heads": (1, 2), "forget_gate": ("sigmoid", "exp"), "use_bias": (True, False), "forget_bias": (3.0, None, 0.5)}
CONVOLVED = {"strides": (1, 2), "padding": ("valid", "same"), "dilation": (1, 2), "peephole": (False, True)}
OPTIONS = {  # the first of each is the default
    partial(GRUCell, UNITS): GATED | {"reset_after": (True, False)},
    partial(ElmanCell, UNITS): {name: values for name, values in GATED.items() if name != "recurrent_activation"},
    partial(ConvLSTMCell, 2, (2, 3), (5, 7)): GATED | CONVOLVED | {"forget_bias": (1.0, None, 0.5)},
    partial(SLSTMCell, UNITS): EXPONENTIAL,
    partial(MLSTMCell, UNITS): EXPONENTIAL,
}
UNSTABLE = {SLSTMCell: slstm, MLSTMCell: mlstm}  # in NumPy, which has no stabilizer
BIASED = {"use_bias": False, "forget_bias": 0.5}  # the only pair that is refused


def makes_sense(row):
    """Return whether these options, all or only some of them, can be combined."""
    return not row.items() >= BIASED.items()


def sensible_pairs(options):
    """Return all pairs of options except the invalid one."""
    every = [dict(pair) for a, b in combinations(options, 2) for pair in product(*([(n, x) for x in options[n]] for n in (a, b)))]
    return set().union(*(pairs(row) for row in every if makes_sense(row)))


CELLS = [
    make(**row)
    for make, options in OPTIONS.items()
    for row in covering(options, sensible_pairs(options), makes_sense, candidates=10)
]


@pytest.mark.parametrize("make", OPTIONS, ids=lambda make: make.func.__name__)
def test_the_options_are_all_there_are(make):
    """The table has every option, except sizes and initializers."""
    sizes = list(make.func.__dataclass_fields__)[: len(make.args)]
    free = {"_", "kernel_init", "recurrent_init", "bias_init"}.union(sizes)
    assert OPTIONS[make].keys() == make.func.__dataclass_fields__.keys() - free
    defaults = make(**{name: values[0] for name, values in OPTIONS[make].items()})
    assert defaults == make()


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_every_pair_equals_numpy(cell, x64):
    """Initial biases, masks and outputs equal NumPy's. Each gradient equals a slope by central differences.

    The initial and last carry are compared too, except for cells with a stabilizer, whose carry is not that of the equations.
    """
    layer = RNN(replace(cell, kernel_init="zeros"), param_dtype="float64")  # zeros compile fast; random numbers are added below
    problem = small_problem(layer)
    cotangent = cotangent_of(problem)
    if type(cell) in UNSTABLE:  # the NumPy equations start from zeros and return only outputs
        problem, cotangent = problem._replace(carry=None), (jax.tree.map(np.zeros_like, cotangent[0]), cotangent[1])
    drawn = differentiate_drawn(layer, cotangent, jax.random.key(3), *problem[1:])
    initial, masks, values, out, gradients = jax.tree.map(np.asarray, drawn)
    for name in initial.keys() - {"kernel", "recurrent_kernel", "gate_kernel", "peephole_kernel"}:
        np.testing.assert_array_equal(initial[name], first_bias(cell, name, initial[name].size))
    assert any("bias" in name for name in initial) == cell.use_bias
    rates = {"inputs": getattr(cell, "dropout", 0.0), "recurrent": getattr(cell, "recurrent_dropout", 0.0)}
    assert masks.keys() == {name for name, rate in rates.items() if rate}
    assert all(np.isin(mask, [0, 1 / (1 - rates[name])]).all() for name, mask in masks.items())

    def expected(params, xs, carry):
        if type(cell) in UNSTABLE:
            return out[0], UNSTABLE[type(cell)](cell, params, xs)
        if type(cell) is ElmanCell:
            return elman(cell, params, xs, carry, dropout_masks=masks)
        return textbook.run(layer, params, xs, carry, dropout_masks=masks)[:2]

    assert_close(out, expected(*values), atol=1e-12, rtol=1e-12)
    assert_slopes(expected, values, gradients, cotangent)


def first_bias(cell, name, size):
    """Return the initial bias: zeros, and the forget bias where the forget gate has its own."""
    quarters = {ConvLSTMCell: 4, SLSTMCell: 4, MLSTMCell: 2}.get(type(cell), 1)
    parts = np.zeros((quarters, size // quarters))
    if name == ("gate_bias" if type(cell) is MLSTMCell else "bias") and quarters > 1:
        parts[1] = cell.forget_bias or 0.0
    return parts.ravel()


@pytest.mark.parametrize("make", [make for make, options in OPTIONS.items() if options.keys() >= BIASED.keys()])
def test_the_senseless_pair_is_refused(make):
    """The invalid pair is refused in one sentence."""
    with pytest.raises(ValueError, match="forget_bias is for a forget gate with a bias, which this cell has none of"):
        make(**BIASED)
