"""The verdict passes right results, and fails each deliberate bug by the limits of every dtype."""

from dataclasses import dataclass, replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm import RNN, Bidirectional, LSTMCarry, LSTMCell
from jlstm.cells.tuples import LSTMGates, split_gates
from parity import Problem, ours, textbook
from parity.measure import judge
from parity.quantities import truth
from parity.values import draw

pytestmark = pytest.mark.no_cover

DTYPES = ("float64", "float32", "bfloat16")


def layer(cell=LSTMCell):
    return RNN(cell(4, dropout=0.3, recurrent_dropout=0.4))


@cache
def small_problem(dtype, both_directions=False):
    tested_layer = Bidirectional(layer()) if both_directions else layer()
    return Problem(tested_layer, dtype=dtype, mask="right", batch=5, time=6, features=3)


@cache
def right(dtype, both_directions=False):
    """Return values, truth and the results of a side without a bug, which stands for the peer."""
    problem = small_problem(dtype, both_directions)
    values = draw(problem)
    return values, truth(problem, values), ours.run(problem, values)


def verdict(dtype, results, both_directions=False):
    values, true, peer = right(dtype, both_directions)
    verdicts = {q.verdict for q in judge(true, results, peer, dtype=dtype, time=values.xs.shape[1])}
    return "fail" if "fail" in verdicts else "pass"


# --- deliberate bugs in the cell


def cell_with(change):
    """Return a cell whose pre-activations, carry or output go through `change`."""

    @dataclass(frozen=True)
    class Buggy(LSTMCell):
        def step(self, params, context, carry, z):
            return change(super(), params, context, carry, z)

    return Buggy


def gates(*order):
    """Return a cell with the columns i, f, g, o in another order, as if two frameworks' layouts were mixed up."""

    def change(cell, params, context, carry, z):
        blocks = jnp.split(params["recurrent_kernel"], 4, -1)
        kernel = jnp.concatenate([blocks[k] for k in order], -1)
        masks = {name: mask[np.array(order)] for name, mask in context.items()}
        return cell.step(params | {"recurrent_kernel": kernel}, masks, carry, LSTMGates(*(z[k] for k in order)))

    return cell_with(change)


def added_to_forget_gate(amount):
    def change(cell, params, context, carry, z):
        return cell.step(params, context, carry, z._replace(f=z.f + amount))

    return cell_with(change)


def transposed_blocks(cell, params, context, carry, z):
    kernel = jnp.concatenate([block.T for block in jnp.split(params["recurrent_kernel"], 4, -1)], -1)
    return cell.step(params | {"recurrent_kernel": kernel}, context, carry, z)


def output_is_c(cell, params, context, carry, z):
    after, _ = cell.step(params, context, carry, z)
    return after, after.c


def swapped_carry(cell, params, context, carry, z):
    after, y = cell.step(params, context, carry, z)
    return LSTMCarry(after.c, after.h), y


def dropped_bias(cell, params, context, carry, z):
    return cell.step(params, context, carry, jax.tree.map(lambda a, b: a - b[None], z, split_gates(params["bias"])))


def one_recurrent_mask(cell, params, context, carry, z):
    return cell.step(params, context | {"recurrent": context["recurrent"][:1]}, carry, z)


def no_recurrent_dropout(cell, params, context, carry, z):
    return cell.step(params, {}, carry, z)


CELLS = {
    "gates i and f swapped": gates(1, 0, 2, 3),
    "gates f and g swapped": gates(0, 2, 1, 3),
    "gates g and o swapped": gates(0, 1, 3, 2),
    "gates f and o swapped": gates(0, 3, 2, 1),
    "forget bias missing": added_to_forget_gate(-1),
    "forget bias twice": added_to_forget_gate(1),
    "recurrent kernel transposed": cell_with(transposed_blocks),
    "c is the output": cell_with(output_is_c),
    "h and c swapped": cell_with(swapped_carry),
    "bias dropped": cell_with(dropped_bias),
    "one dropout mask for all gates": cell_with(one_recurrent_mask),
    "recurrent dropout forgotten": cell_with(no_recurrent_dropout),
}

# --- deliberate bugs around it


def with_values(**changes):
    """Return a run on changed values, as after a wrong conversion."""

    def run(problem, values):
        return ours.run(problem, values._replace(**{name: change(getattr(values, name)) for name, change in changes.items()}))

    return run


def with_result(name, change):
    def run(problem, values):
        results = dict(ours.run(problem, values))
        results[name] = change(results[name].copy())
        return results

    return run


def zeroed_where_largest(gradient):
    gradient[np.unravel_index(np.abs(gradient).argmax(), gradient.shape)] = 0
    return gradient


def in_lower_precision(problem, values):
    lower = {"float64": "float32", "float32": "bfloat16", "bfloat16": None}[problem.dtype]
    if lower is None:  # there is no lower dtype, so drop bits by rounding to quarters
        return {name: np.round(value * 4) / 4 for name, value in ours.run(problem, values).items()}
    return ours.run(small_problem(lower, True), values)


def kernels(change):
    return lambda params: jax.tree_util.tree_map_with_path(
        lambda path, leaf: change(leaf) if jax.tree_util.keystr(path[-1:], simple=True) == "kernel" else leaf, params
    )


RUNS = {
    "kernel transposed": with_values(params=kernels(lambda leaf: leaf.T.reshape(leaf.shape))),
    "time reversed": with_values(xs=lambda xs: xs[:, ::-1]),
    "batch rows mixed": with_values(xs=lambda xs: np.roll(xs, 1, 0)),
    "mask off by one": with_values(mask=lambda mask: np.roll(mask, 1, 1)),
    "mask ignored": with_values(mask=np.ones_like),
    "initial carry ignored": with_values(carry=lambda carry: jax.tree.map(np.zeros_like, carry)),
    "initial h and c swapped": with_values(
        carry=lambda carry: {name: LSTMCarry(state.c, state.h) for name, state in carry.items()},
    ),
    "directions swapped": with_values(params=lambda params: {"forward": params["backward"], "backward": params["forward"]}),
    "input dropout not scaled": with_values(
        dropout_masks=lambda dropout_masks: {
            name: masks | {"inputs": masks["inputs"] * 0.7} for name, masks in dropout_masks.items()
        }
    ),
    "gradient of one weight matrix zero": with_result("d_params.backward.recurrent_kernel", np.zeros_like),
    "gradient of one weight zero": with_result("d_params.forward.kernel", zeroed_where_largest),
    "gradient of the bias twice": with_result("d_params.forward.bias", lambda gradient: 2 * gradient),
    "gradient of h0 missing": with_result("d_carry.forward.h", np.zeros_like),
    "gradient's sign": with_result("d_xs", np.negative),
    "a result is NaN": with_result("ys", lambda ys: np.where(ys == ys.max(), np.nan, ys)),
    "a result has another shape": with_result("d_xs", lambda gradient: gradient[:, 1:]),
    "a dtype too low": in_lower_precision,
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_bug_passes(dtype):
    """Right results pass: a checker that fails everything is useless."""
    assert verdict(dtype, right(dtype)[2]) == "pass"
    assert verdict(dtype, right(dtype, True)[2], True) == "pass"


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("bug", CELLS)
def test_bug_in_the_cell_fails(bug):
    """A cell with one deliberate bug, and no rounding, fails by the limits of every dtype."""
    wrong = replace(small_problem("float64"), layer=layer(CELLS[bug]))
    for dtype in DTYPES:
        assert verdict(dtype, ours.run(wrong, right(dtype)[0])) == "fail", dtype


@pytest.mark.table(quick=6)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bug", RUNS)
def test_bug_around_the_cell_fails(bug, dtype):
    """Wrong values passed in, or a wrong gradient, fail."""
    results = RUNS[bug](small_problem(dtype, True), right(dtype, True)[0])
    assert verdict(dtype, results, True) == "fail"


# --- the rules themselves


@pytest.mark.parametrize(
    ("dtype", "off_ours", "off_peer", "time", "expected"),
    [
        ("float64", 0.9e-12, 0, 10, "pass"),
        ("float64", 1.1e-12, 0, 10, "fail"),
        ("float64", 9e-12, 0, 1000, "pass"),  # allowed to grow with time
        ("float64", 0, 1.1e-12, 10, "peer-bug"),
        ("float64", np.nan, 0, 10, "fail"),
        ("float64", 0, np.nan, 10, "peer-bug"),
        ("float32", 31 * 2**-23, 0, 10, "pass"),  # 8 · 4 · eps
        ("float32", 33 * 2**-23, 0, 10, "fail"),
        ("float32", 7.9e-3, 1e-3, 10, "pass"),  # 8 × the peer's
        ("float32", 8.1e-3, 1e-3, 10, "fail"),
        ("float32", np.nan, np.nan, 10, "fail"),
    ],
)
def test_rule(dtype, off_ours, off_peer, time, expected):
    """Each rule passes just inside and fails just outside its limit, in units of the largest value."""
    true = np.array([4.0, -1.0])  # scale 4
    sides = ({"ys": true + 4 * np.array([0, off])} for off in (off_ours, off_peer))
    (quantity,) = judge({"ys": true}, *sides, dtype=dtype, time=time)
    assert quantity.verdict == expected


@pytest.mark.parametrize(
    ("off_ours", "off_peer", "expected"),
    [(1e-6, 0.1, "peer-bug"), (1e-5, 0.1, "fail"), (1e-6, 1e-4, "pass"), (1e-6, np.nan, "peer-bug")],
)
def test_what_a_peer_is_known_to_get_wrong_excuses_nothing_of_ours(off_ours, off_peer, expected):
    """In float32 ours is held to rounding. The peer is wrong if off by more than the root of eps."""
    true = np.ones(3)
    (quantity,) = judge({"ys": true}, {"ys": true + off_ours}, {"ys": true + off_peer}, dtype="float32", time=1, known_bug=True)
    assert quantity.verdict == expected


def test_ratio_counts_nothing_below_the_last_bit():
    """An exact peer does not make our last bit an infinite ratio."""
    true = np.array([1.0])
    (quantity,) = judge({"ys": true}, {"ys": true + 2**-24}, {"ys": true}, dtype="float32", time=1)
    assert quantity.ratio == 1
    assert quantity.ours_ulp == pytest.approx(0.5)
    assert quantity.peer_ulp == 0


def test_zero_truth_asks_for_zero():
    """If the truth is all zero, only zero passes, and nothing is divided by it."""
    (quantity,) = judge({"ys": np.zeros(2)}, {"ys": np.zeros(2)}, {"ys": np.zeros(2)}, dtype="float32", time=1)
    assert (quantity.verdict, quantity.ratio, quantity.ours_ulp) == ("pass", 1, 0)
    (quantity,) = judge({"ys": np.zeros(2)}, {"ys": np.full(2, 1e-30)}, {"ys": np.zeros(2)}, dtype="float32", time=1)
    assert quantity.verdict == "fail"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_truth_that_is_not_finite_passes_nothing(value, dtype):
    """An infinite scale would allow any distance."""
    true = {"ys": np.array([1.0, value])}
    (quantity,) = judge(true, {"ys": np.zeros(2)}, true, dtype=dtype, time=1)
    assert quantity.verdict == "fail"


def test_sides_must_have_the_same_quantities():
    """A gradient that one side leaves out is an error."""
    true = {"ys": np.ones(1), "d_xs": np.ones(1)}
    with pytest.raises(ValueError, match="not in all: d_xs"):
        judge(true, {"ys": np.ones(1)}, true, dtype="float32", time=1)


def test_values_are_representable():
    """Values drawn for bfloat16 are unchanged by rounding to it, so both sides start alike."""
    values = right("bfloat16")[0]
    for leaf in jax.tree.leaves(values._replace(mask=None)):
        np.testing.assert_array_equal(leaf, leaf.astype(jnp.bfloat16).astype(np.float64))


def test_oracle_serves_both_sides():
    """The textbook shares no code with our side: it never calls JAX."""
    source = textbook.__loader__.get_source("parity.textbook")
    assert "import jax" not in source
    assert "jnp" not in source
