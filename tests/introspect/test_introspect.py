"""Traces of gates and states equal float64 NumPy."""

from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from jlstm import LSTM, RNN, Bidirectional, ElmanCell, LSTMCarry, Stack
from jlstm.cells import Dropout, Highway, LearnedCarry, LSTMGates, Residual, WeightDrop, Zoneout
from jlstm.introspect import Trace, gradient_flow, saturation, trace
from parity import textbook
from problems import BATCH, FEATURES, TIME, UNITS, assert_close, flags, small_problem
from running_mean import RunningMean

pytestmark = pytest.mark.usefixtures("x64")


def by_hand(problem, mask=None, resets=None):
    """Return the gates, c and h of every step, computed in NumPy. They are zero where a step does not count."""
    layer, params, xs, carry = problem
    mask = np.ones((BATCH, TIME), bool) if mask is None else mask
    resets = np.zeros((BATCH, TIME), bool) if resets is None else resets
    (h, c), steps = carry, {}
    for t in range(TIME)[:: -1 if layer.reverse else 1]:
        counts = mask[:, t, None]
        h_before, c_before = (np.where(resets[:, t, None], 0, part) for part in (h, c))
        x = np.where(counts, xs[:, t], 0)
        z = np.split(x @ params["kernel"] + h_before @ params["recurrent_kernel"] + params["bias"], 4, axis=1)
        i, f, g, o = textbook.sigmoid(z[0]), textbook.sigmoid(z[1]), np.tanh(z[2]), textbook.sigmoid(z[3])
        c_after = f * c_before + i * g
        h_after = o * np.tanh(c_after)
        h, c = np.where(counts, h_after, h), np.where(counts, c_after, c)
        steps[t] = [np.where(counts, array, 0) for array in (i, f, g, o, c_after, h_after)]
    i, f, g, o, cs, hs = (np.stack([steps[t][k] for t in range(TIME)], 1) for k in range(6))
    return Trace(LSTMGates(i, f, g, o), LSTMCarry(hs, cs), mask)


traced = jax.jit(trace, static_argnums=0)

SEQUENCES = {
    "plain": {},
    "holes": {"mask": flags(0.6)},
    "resets": {"resets": flags(0.4)},
    "resets and holes": {"mask": flags(0.5), "resets": flags(0.5, seed=3)},
    "nothing counts": {"mask": np.zeros((BATCH, TIME), bool)},
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_trace_equals_the_textbook(name, reverse):
    """Gates, cell states and outputs equal NumPy's, step by step, whatever the direction, the mask and the resets."""
    problem = small_problem(LSTM(UNITS, reverse=reverse))
    got = traced(*problem, **SEQUENCES[name])
    assert_close(got, by_hand(problem, **SEQUENCES[name]), atol=1e-14)
    ys = textbook.run(*problem, **SEQUENCES[name])[1]
    assert_close(got.h, ys, atol=1e-14)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_lengths_are_the_mask_they_stand_for(reverse, dtype):
    """Lengths give the trace of their mask, with NaN in the padding, and under jit."""
    layer, params, xs, carry = small_problem(LSTM(UNITS, reverse=reverse))
    lengths = np.array([TIME, 2], dtype)
    mask = np.arange(TIME) < lengths[:, None]
    padded = np.where(mask[..., None], xs, np.nan)
    expected = by_hand((layer, params, xs, carry), mask=mask)
    assert_close(trace(layer, params, padded, carry, lengths=lengths), expected, atol=1e-14)
    assert_close(traced(layer, params, padded, carry, lengths=lengths), expected, atol=1e-14)


def test_every_cell_state_is_what_the_gates_let_through():
    """c = f · c_before + i · g, where c_before is the state a step earlier, or the given one, or the cell's own after a reset."""
    problem, resets = small_problem(LSTM(UNITS, recurrent_activation="hard_sigmoid")), flags(0.4)
    cell_trace = traced(*problem, resets=resets)
    c_before = np.concatenate([problem.carry.c[:, None], cell_trace.c[:, :-1]], 1)
    c_before = np.where(resets[..., None], 0, c_before)
    assert_close(cell_trace.c, cell_trace.f * c_before + cell_trace.i * cell_trace.g, atol=1e-15)
    assert_close(cell_trace.h, cell_trace.o * np.tanh(cell_trace.c), atol=1e-15)


def test_layers_upon_layers():
    """A Stack gives a tuple and a Bidirectional a dict. The upper trace is that on the lower layer's outputs."""
    lower, upper = Bidirectional(LSTM(UNITS)), LSTM(6, reverse=True)
    problem, mask = small_problem(Stack((lower, upper))), flags(0.7)
    traces = traced(*problem, mask=mask)
    for name, direction in {"forward": LSTM(UNITS), "backward": LSTM(UNITS, reverse=True)}.items():
        direction_problem = problem._replace(layer=direction, params=problem.params[0][name], carry=problem.carry[0][name])
        assert_close(traces[0][name], by_hand(direction_problem, mask=mask), atol=1e-14)
    ys = textbook.run(lower, problem.params[0], problem.xs, problem.carry[0], mask)[1]
    assert_close(traces[1], by_hand((upper, problem.params[1], ys, problem.carry[1]), mask=mask), atol=1e-14)
    from_zeros = traced(problem.layer, problem.params, problem.xs)
    zeros = jax.tree.map(np.zeros_like, problem.carry)
    assert_close(from_zeros, traced(problem.layer, problem.params, problem.xs, zeros), atol=0)


def gru_by_hand(problem, mask):
    """Return update gate, reset gate, candidate and h of every step, computed in NumPy."""
    cell, params, xs, h = problem.layer.cell, problem.params, problem.xs, problem.carry.h
    W, U, b = (np.split(params[name], 3, -1) for name in ("kernel", "recurrent_kernel", "bias"))
    steps = []
    for t in range(TIME):
        z, r = (textbook.sigmoid(xs[:, t] @ W[k] + h @ U[k] + b[k]) for k in (0, 1))
        if cell.reset_after:
            g = np.tanh(xs[:, t] @ W[2] + b[2] + r * (h @ U[2] + params["recurrent_bias"]))
        else:
            g = np.tanh(xs[:, t] @ W[2] + b[2] + (r * h) @ U[2])
        h = np.where(mask[:, t, None], z * h + (1 - z) * g, h)
        steps.append([np.where(mask[:, t, None], array, 0) for array in (z, r, g, h)])
    return [np.stack(array, 1) for array in zip(*steps, strict=True)]


@pytest.mark.parametrize("reset_after", [False, True])
def test_a_trace_of_a_gru_equals_numpy(reset_after):
    """A GRU's gates have their own names."""
    problem, mask = small_problem(RNN(jlstm.GRUCell(UNITS, reset_after=reset_after))), flags(0.6)
    cell_trace = traced(*problem, mask=mask)
    assert set(cell_trace.names) == set("zrgh")
    assert_close([cell_trace.z, cell_trace.r, cell_trace.g, cell_trace.h], gru_by_hand(problem, mask), atol=1e-14)
    np.testing.assert_array_equal(cell_trace.counts, mask)


WRAPPED = {
    "WeightDrop": WeightDrop,
    "Dropout": lambda cell: Dropout(cell, inputs=0.3, outputs=0.4, state=0.2),
    "Residual": Residual,
    "LearnedCarry": LearnedCarry,
    "Highway": Highway,
    "all around": lambda cell: Residual(Dropout(WeightDrop(Zoneout(cell)), variational=True, outputs=0.3)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_trace_of_a_wrapped_cell_is_that_of_the_cell(name):
    """In inference a wrapper leaves the gates alone."""
    cell, sequence = jlstm.LSTMCell(FEATURES), SEQUENCES["holes"]
    problem = small_problem(RNN(WRAPPED[name](cell)))
    inner = problem.params.get("cell", problem.params)
    assert_close(traced(*problem, **sequence), by_hand(problem._replace(params=inner), **sequence), atol=1e-14)


def test_a_trace_of_zoneout_has_the_mixed_states():
    """Gates come from the carried h and c, which are mixed with the previous ones."""
    problem = small_problem(RNN(Zoneout(jlstm.LSTMCell(UNITS), h=0.3, c=0.6)))
    cell_trace = traced(*problem)
    carry_before = jax.tree.map(
        lambda first, later: np.concatenate([first[:, None], later[:, :-1]], 1), problem.carry, cell_trace.carry
    )
    sums = problem.xs @ problem.params["kernel"] + carry_before.h @ problem.params["recurrent_kernel"] + problem.params["bias"]
    i, f, g, o = np.split(sums, 4, -1)
    i, f, g, o = textbook.sigmoid(i), textbook.sigmoid(f), np.tanh(g), textbook.sigmoid(o)
    c = f * carry_before.c + i * g
    assert_close(cell_trace.gates, LSTMGates(i, f, g, o), atol=1e-14)
    assert_close(cell_trace.c, 0.6 * carry_before.c + 0.4 * c, atol=1e-14)
    assert_close(cell_trace.h, 0.3 * carry_before.h + 0.7 * o * np.tanh(c), atol=1e-14)


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])
def test_gates_of_an_xlstm_are_the_factors_of_its_states(forget_gate):
    """c = f c_before + i g, also for a matrix c. All gates but the candidate lie between 0 and 1."""
    of_scalar = small_problem(RNN(jlstm.SLSTMCell(UNITS, heads=2, forget_gate=forget_gate)))
    cell_trace, start = traced(*of_scalar[:3]), of_scalar.layer.initial_carry(of_scalar.params, (BATCH,), "float64")
    carry_before = jax.tree.map(lambda first, later: np.concatenate([first[:, None], later[:, :-1]], 1), start, cell_trace.carry)
    f, i = np.asarray(cell_trace.f), np.asarray(cell_trace.i)
    assert_close(cell_trace.c, f * carry_before.c + i * cell_trace.g, atol=1e-14)
    assert_close(cell_trace.n, f * carry_before.n + i, atol=1e-14)
    assert_close(cell_trace.h, cell_trace.o * cell_trace.c / cell_trace.n, atol=1e-14)
    of_matrix = small_problem(RNN(jlstm.MLSTMCell(UNITS, heads=2, forget_gate=forget_gate)))
    cell_trace, start = traced(*of_matrix[:3]), of_matrix.layer.initial_carry(of_matrix.params, (BATCH,), "float64")
    n_before = np.concatenate([np.asarray(start.n)[:, None], cell_trace.n[:, :-1]], 1)
    k = np.split(of_matrix.xs @ of_matrix.params["kernel"] + of_matrix.params["bias"], 4, -1)[1].reshape(BATCH, TIME, 2, -1)
    assert_close(
        cell_trace.n, cell_trace.f[..., None] * n_before + cell_trace.i[..., None] * k / np.sqrt(k.shape[-1]), atol=1e-14
    )
    assert cell_trace.o.shape == (BATCH, TIME, UNITS)
    assert saturation(cell_trace).above.f.shape == (2,)
    assert all(np.all((gate >= 0) & (gate <= 1)) for gate in (f, i, cell_trace.f, cell_trace.i, cell_trace.o))


def test_gates_of_minimal_cells():
    """The gates are shares of the old state and of the new input."""
    problem = small_problem(RNN(jlstm.MinLSTMCell(UNITS)))
    i, f, _ = np.split(problem.xs @ problem.params["kernel"] + problem.params["bias"], 3, -1)
    i, f = textbook.sigmoid(i), textbook.sigmoid(f)
    assert_close(list(traced(*problem).gates), [i / (i + f), f / (i + f)], atol=1e-14)
    problem = small_problem(RNN(jlstm.MinGRUCell(UNITS)))
    z = textbook.sigmoid(np.split(problem.xs @ problem.params["kernel"] + problem.params["bias"], 2, -1)[0])
    assert_close(traced(*problem).z, z, atol=1e-14)


class Leak(NamedTuple):
    """The gate of a user's cell."""

    f: Any


@dataclass(frozen=True, repr=False)
class Leaky(RunningMean):
    """A user's cell with a gate."""

    def gates(self, params, context, carry, z):
        return Leak(jnp.full_like(z["x"], 0.25))


def test_a_cell_of_ones_own_is_traced():
    """A user's cell with a method `gates` is traced, whatever the fields of its carry."""
    problem = small_problem(RNN(Leaky(FEATURES)))
    cell_trace = traced(*problem)
    assert np.all(cell_trace.f == 0.25)
    with pytest.raises(AttributeError, match=r"this trace has no 'o': it has .*f"):
        attrgetter("o")(cell_trace)


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("batch_shape", [(), (6,), (3, 2)])
@pytest.mark.parametrize("sequence", [{}, {"lengths": np.array([0, 1, 2, 3, 4, 5])}], ids=["plain", "lengths"])
def test_axes_are_those_of_the_inputs(batch_shape, sequence):
    """A trace has the batch axes of the inputs, and time first if the inputs have."""
    layer, params, xs, carry = small_problem(LSTM(UNITS), batch=6)
    xs, carry, sequence = jax.tree.map(lambda leaf: leaf[: int(np.prod(batch_shape))], (xs, carry, sequence))
    expected = traced(layer, params, xs, carry, **sequence)
    shaped = partial(jax.tree.map, lambda leaf: leaf.reshape(batch_shape + leaf.shape[1:]))
    assert_close(traced(layer, params, *shaped((xs, carry)), **shaped(sequence)), shaped(expected), atol=1e-15)
    first = partial(jax.tree.map, lambda leaf: jnp.moveaxis(leaf, len(batch_shape), 0))
    time_major = LSTM(UNITS, time_major=True)
    got = traced(time_major, params, first(shaped(xs)), shaped(carry), **shaped(sequence))
    assert_close(got, first(shaped(expected)), atol=1e-15)


def test_a_trace_has_the_compute_dtype():
    """The dtype is that of the layer, else that of the inputs."""
    layer, params, xs, carry = small_problem(LSTM(UNITS, dtype="float32"))
    assert traced(layer, params, xs, carry).f.dtype == jnp.float32
    assert traced(LSTM(UNITS), params, jnp.asarray(xs, "bfloat16"), carry).o.dtype == jnp.bfloat16


def test_saturation_counts_steps():
    """Shares count the steps in use, by gate and unit. The candidate counts by its absolute value."""
    problem, lengths = small_problem(LSTM(UNITS)), np.array([4, 2])
    cell_trace = traced(*problem, lengths=lengths)
    below, above = saturation(cell_trace, 0.3, 0.6)
    for name in ("i", "f", "g", "o"):
        steps = np.concatenate([np.abs(getattr(cell_trace, name))[b, :n] for b, n in enumerate(lengths)])
        assert_close(getattr(below, name), (steps < 0.3).mean(0), atol=1e-15)
        assert_close(getattr(above, name), (steps > 0.6).mean(0), atol=1e-15)
    assert 0 < np.mean(below) < 1


def test_saturation_of_layers_and_of_nothing():
    """A tree of traces gives a tree. Without any counted step the shares are zero."""
    problem = small_problem(Stack((Bidirectional(LSTM(UNITS)), LSTM(6))))
    lower, upper = saturation(traced(*problem))
    assert lower["backward"].above.f.shape == (UNITS,)
    assert upper.below.o.shape == (6,)
    nothing = saturation(traced(*problem, lengths=np.zeros(BATCH, int)))
    assert_close(nothing, jax.tree.map(np.zeros_like, nothing), atol=0)


LAYER, ELMAN, MEAN = LSTM(UNITS), RNN(ElmanCell(UNITS)), RNN(RunningMean(FEATURES))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p, xs: trace(ELMAN, ELMAN.init(jax.random.key(0), FEATURES), xs),
            r"needs a cell with gates, and ElmanCell\(units=4\) has none: jlstm.cell_states",
        ),
        (lambda p, xs: trace(LAYER, p, xs, lengths=[9, 1]), "lengths must lie between 0 and the 5 time steps of xs, got 9"),
        (lambda p, xs: trace(Stack((LAYER, LAYER)), (p,), xs), "is missing"),
        (lambda p, xs: trace(LAYER, p, xs, LSTMCarry(np.zeros((3, UNITS)), np.zeros((3, UNITS)))), "carry.h must have shape"),
        (lambda p, xs: saturation(trace(LAYER, p, xs), 0.9, 0.1), "with 0 ≤ low ≤ high ≤ 1, got 0.9 and 0.1"),
        (lambda p, xs: gradient_flow(LAYER, p, xs[:, :0]), "needs at least one time step"),
        (lambda p, xs: gradient_flow(MEAN, MEAN.init(jax.random.key(0), FEATURES), xs), "a cell that carries h and returns it"),
        (lambda p, xs: gradient_flow(LAYER.cell, p, xs), "layer must be a Layer such as"),
    ],
)
def test_bad_input_gives_one_sentence(call, message):
    """The sentence says what was expected."""
    _, params, xs, _ = small_problem(LAYER)
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        call(params, xs)
    assert "\n" not in str(caught.value)
