"""A cell around an LSTM that does nothing inside the loop over time runs as that LSTM, with the results of the plain loop."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from jlstm import LSTM, RNN, GRUCell, LSTMCell, MinLSTMCell
from jlstm.backends.cpu import library
from jlstm.cell import Reduced
from jlstm.cells import Dropout, Highway, LearnedCarry, Residual, WeightDrop, Wrapper, Zoneout
from problems import FEATURES, TIME, UNITS, assert_close, cotangent_of, differentiate, flags, small_problem

CELL, SQUARE = LSTMCell(UNITS), LSTMCell(FEATURES)
CPU = f"cpu ({library.load().instructions})"  # as `explain` names the kernel, for example "cpu (avx2)"
KEY = {"key": jax.random.key(5)}

ALWAYS = {  # these run as the inner cell with a key too
    "WeightDrop": WeightDrop(CELL, rate=0.4),
    "Dropout of inputs and outputs": Dropout(CELL, inputs=0.3, outputs=0.4),
    "variational Dropout": Dropout(CELL, inputs=0.3, outputs=0.4, variational=True),
    "Residual": Residual(SQUARE),
    "Highway": Highway(SQUARE),
    "LearnedCarry": LearnedCarry(CELL),
    "AWD": Dropout(WeightDrop(LSTMCell(UNITS, dropout=0.2), rate=0.4), inputs=0.3, outputs=0.4, variational=True),
    "all around": LearnedCarry(Residual(Highway(Dropout(WeightDrop(SQUARE, rate=0.4), inputs=0.3, outputs=0.2)))),
    "Zoneout of nothing": Zoneout(CELL),
}
IN_INFERENCE = {
    "Dropout of h": Dropout(CELL, inputs=0.3, state=0.2),
    "variational Dropout of h": Residual(Dropout(SQUARE, state=0.2, variational=True)),
}
RECURRENT_DROPOUT = WeightDrop(LSTMCell(UNITS, recurrent_dropout=0.3))  # with a key `fused` runs it
NEVER = {
    "Zoneout": (Zoneout(CELL, h=0.3), "it is not for Zoneout"),
    "around Zoneout": (Residual(Zoneout(SQUARE, c=0.3)), "it is not for Zoneout"),
    "another GRU": (WeightDrop(GRUCell(UNITS, reset_after=False)), "the reset gate acts before the product with U"),
}


def explained(layer, **options):
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES))
    return str(jlstm.explain(layer, params, jax.ShapeDtypeStruct((2, TIME, FEATURES), "float32"), **options))


def assert_like_scan(cell, backend, **options):
    """Assert that outputs, last carry and all gradients equal those of `scan` to float64 rounding."""
    problem = small_problem(RNN(cell, backend=backend))
    runs = [differentiate(RNN(cell, backend=name), cotangent_of(problem), *problem[1:], **options) for name in (backend, "scan")]
    assert_close(*runs, atol=1e-12)


RUNS = {  # every way to run with every kind of wrapper, not with every wrapper
    **{f"{name}, key": (cell, "cpu", KEY) for name, cell in ALWAYS.items()},
    **{name: (cell, "cpu", {}) for name, cell in IN_INFERENCE.items()},
    "recurrent dropout": (RECURRENT_DROPOUT, "cpu", {}),
    "recurrent dropout, key": (RECURRENT_DROPOUT, "fused", KEY),
    **{name: (ALWAYS[name], "cpu", {}) for name in ("Residual", "AWD")},
    "GRU, key": (Residual(WeightDrop(GRUCell(FEATURES), rate=0.4)), "cpu", KEY),
    **{f"{name}, fused": (ALWAYS[name], "fused", {}) for name in ("all around", "WeightDrop")},
    **{f"{name}, fused, key": (ALWAYS[name], "fused", KEY) for name in ("all around", "AWD")},
}


@pytest.mark.table(quick=3)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", RUNS)
def test_results_and_gradients_are_those_of_the_plain_loop(name):
    """`scan` runs the wrapped cell step by step, with the same masks from the same key."""
    cell, backend, drawn = RUNS[name]
    assert_like_scan(cell, backend, mask=flags(0.6), **drawn)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["LearnedCarry", "AWD"])
def test_resets_put_back_the_carry_of_the_whole(name):
    """Resets restore a learned carry, not the inner LSTM's zeros, which the kernel would restore."""
    assert_like_scan(ALWAYS[name], "cpu", resets=flags(0.4, seed=3), **KEY)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("backend", ["auto", "fused"])
@pytest.mark.parametrize("drawn", [{}, KEY], ids=["inference", "key"])
@pytest.mark.parametrize("name", ALWAYS | IN_INFERENCE)
def test_a_fast_backend_runs_the_inner_cell(name, drawn, backend):
    """With a key this holds only where nothing is drawn inside the loop. `explain` names both cells."""
    cell = (ALWAYS | IN_INFERENCE)[name]
    inner = cell
    while isinstance(inner, Wrapper):
        inner = inner.cell
    explanation = explained(RNN(cell, backend=backend), **drawn)
    if name in IN_INFERENCE and drawn:
        assert explanation.startswith(f"{cell} is run by scan; ")
    else:
        off = "\ndropout is off, since no key is given" if RNN(cell).stochastic and not drawn else ""
        assert explanation == f"{cell} is run by {CPU if backend == 'auto' else backend} as {inner}{off}"


@pytest.mark.usefixtures("native")
def test_recurrent_dropout_is_run_by_fused():
    """The kernel has no dropout of h. Without a key there is none."""
    assert f"{RECURRENT_DROPOUT} is run by {CPU} as LSTMCell" in explained(RNN(RECURRENT_DROPOUT))
    assert explained(RNN(RECURRENT_DROPOUT), **KEY).endswith("not by cpu: h or g has dropout")
    assert f"{RECURRENT_DROPOUT} is run by fused as LSTMCell" in explained(RNN(RECURRENT_DROPOUT), **KEY)


@pytest.mark.parametrize("name", NEVER)
def test_what_changes_the_carry_is_run_by_scan(name):
    """`scan` runs a wrapper that changes the carry, and the message names that cell."""
    cell, why = NEVER[name]
    assert explained(RNN(cell)).startswith(f"{cell} is run by scan; ")
    assert f"not by fused: {why}" in explained(RNN(cell))


@pytest.mark.usefixtures("x64")
def test_a_cell_for_all_steps_at_once_may_be_wrapped():
    """A minLSTM inside a residual and output dropout still runs in parallel."""
    cell = Residual(Dropout(MinLSTMCell(FEATURES), outputs=0.4))
    assert explained(RNN(cell, backend="parallel")).startswith(f"{cell} is run by parallel as MinLSTMCell")
    assert_like_scan(cell, "parallel", **KEY)


@dataclass(frozen=True, repr=False)
class Halved(WeightDrop):
    """A wrapper from a user: it halves the output and the h that is handed on."""

    def step(self, params, context, carry, z):
        after, y = super().step(params, context, carry, z)
        return after._replace(h=after.h / 2), y / 2


class Inner(LSTMCell):
    """An LSTM from a user that says that it equals the plain one."""

    def reduced(self, params, context, xs):
        return Reduced(LSTMCell(self.units), params, context, xs, lambda ys: ys)


class Louder(Inner):
    """A subclass that changes a part of the equations."""

    def advance(self, params, context, carry, sums):
        carry, y = super().advance(params, context, carry, sums)
        return carry._replace(h=2 * y), 2 * y


@pytest.mark.parametrize("cell", [Halved(CELL), Louder(UNITS)], ids=["step", "advance"])
def test_a_subclass_with_equations_of_its_own_is_not_taken_for_what_it_inherits(cell):
    """The subclass declares no inner form, so its own equations run."""
    problem = small_problem(RNN(cell), dtype=np.float32)
    assert " as LSTMCell" not in explained(problem.layer)
    assert "is run by cpu" not in explained(problem.layer)
    carry, ys = problem.carry, []
    for t in range(TIME):
        carry, y = problem.layer.step(problem.params, carry, jnp.asarray(problem.xs[:, t]))
        ys.append(y)
    assert_close(problem.layer.apply(*problem[1:]), (carry, jnp.stack(ys, 1)), atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["Highway", "Residual", "AWD"])
def test_padding_counts_for_nothing(name):
    """NaN in padding reaches neither the outputs, which are zero there, nor the gradients."""
    layer, params, xs, carry = problem = small_problem(RNN(ALWAYS[name], backend="fused"))
    lengths = np.array([TIME, 2])
    padded = np.where((np.arange(TIME) < lengths[:, None])[..., None], xs, np.nan)
    cotangent = cotangent_of(problem)
    got = differentiate(layer, cotangent, params, padded, carry, lengths=lengths, **KEY)
    assert_close(got, differentiate(layer, cotangent, params, np.nan_to_num(padded), carry, lengths=lengths, **KEY), atol=0)
    assert not np.asarray(got[0][1])[1, 2:].any()


def test_all_carries_of_a_wrapped_cell_can_be_had():
    """`cell_states` of a wrapped cell equals that of the inner cell."""
    layer, params, xs, carry = small_problem(RNN(WeightDrop(CELL), backend="fused"), dtype=np.float32)
    got = jlstm.cell_states(layer, params, xs, carry)
    assert_close(got, jlstm.cell_states(LSTM(UNITS, backend="scan"), params, xs, carry), atol=1e-6)
