"""What is seen inside is what happened: gates equal float64 NumPy, gradient norms equal JAX's own Jacobians and closed forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from jlstm import LSTM, RNN, Bidirectional, Carry, ElmanCell, Stack
from jlstm.inspect import Flow, Trace, gradient_flow, saturation, trace
from parity import textbook
from problems import BATCH, FEATURES, TIME, UNITS, assert_close, flags, problem
from test_cell import RunningMean

pytestmark = pytest.mark.usefixtures("x64")


def by_hand(given, mask=None, resets=None):
    """The gates, c and h of every step, one after the other, in NumPy; zero where a step does not count."""
    layer, params, xs, carry = given
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
        steps[t] = [np.where(counts, each, 0) for each in (i, f, g, o, c_after, h_after)]
    return Trace(*(np.stack([steps[t][k] for t in range(TIME)], 1) for k in range(6)))


traced, flowed = jax.jit(trace, static_argnums=0), jax.jit(gradient_flow, static_argnums=(0, 3))

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
    given = problem(LSTM(UNITS, reverse=reverse))
    got = traced(*given, **SEQUENCES[name])
    assert_close(got, by_hand(given, **SEQUENCES[name]), atol=1e-14)
    ys = textbook.run(*given, **SEQUENCES[name])[1]
    assert_close(got.h, ys, atol=1e-14)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_lengths_are_the_mask_they_stand_for(reverse, dtype):
    """With NaN in the padding, and under jit."""
    layer, params, xs, carry = problem(LSTM(UNITS, reverse=reverse))
    lengths = np.array([TIME, 2], dtype)
    mask = np.arange(TIME) < lengths[:, None]
    padded = np.where(mask[..., None], xs, np.nan)
    expected = by_hand((layer, params, xs, carry), mask=mask)
    assert_close(trace(layer, params, padded, carry, lengths=lengths), expected, atol=1e-14)
    assert_close(traced(layer, params, padded, carry, lengths=lengths), expected, atol=1e-14)


def test_every_cell_state_is_what_the_gates_let_through():
    """c = f · c_before + i · g, where c_before is the state a step earlier, or the given one, or the cell's own after a reset."""
    given, resets = problem(LSTM(UNITS, recurrent_activation="hard_sigmoid")), flags(0.4)
    seen = traced(*given, resets=resets)
    before = np.concatenate([given.carry.c[:, None], seen.c[:, :-1]], 1)
    before = np.where(resets[..., None], 0, before)
    assert_close(seen.c, seen.f * before + seen.i * seen.g, atol=1e-15)
    assert_close(seen.h, seen.o * np.tanh(seen.c), atol=1e-15)


def test_layers_upon_layers():
    """A Stack gives a tuple and a Bidirectional a dict, and the upper layer's trace is the one on the lower's outputs."""
    lower, upper = Bidirectional(LSTM(UNITS)), LSTM(6, reverse=True)
    given, mask = problem(Stack((lower, upper))), flags(0.7)
    traces = traced(*given, mask=mask)
    for name, one in {"forward": LSTM(UNITS), "backward": LSTM(UNITS, reverse=True)}.items():
        of_one = given._replace(layer=one, params=given.params[0][name], carry=given.carry[0][name])
        assert_close(traces[0][name], by_hand(of_one, mask=mask), atol=1e-14)
    ys = textbook.run(lower, given.params[0], given.xs, given.carry[0], mask)[1]
    assert_close(traces[1], by_hand((upper, given.params[1], ys, given.carry[1]), mask=mask), atol=1e-14)
    without = traced(given.layer, given.params, given.xs)
    zeros = jax.tree.map(np.zeros_like, given.carry)
    assert_close(without, traced(given.layer, given.params, given.xs, zeros), atol=0)


@pytest.mark.parametrize("batch_shape", [(), (6,), (3, 2)])
@pytest.mark.parametrize("sequence", [{}, {"lengths": np.array([0, 1, 2, 3, 4, 5])}], ids=["plain", "lengths"])
def test_axes_are_those_of_the_inputs(batch_shape, sequence):
    """Any number of batch axes; time comes first where it does in the inputs."""
    layer, params, xs, carry = problem(LSTM(UNITS), batch=6)
    xs, carry, sequence = jax.tree.map(lambda leaf: leaf[: int(np.prod(batch_shape))], (xs, carry, sequence))
    expected = traced(layer, params, xs, carry, **sequence)
    shaped = partial(jax.tree.map, lambda leaf: leaf.reshape(batch_shape + leaf.shape[1:]))
    assert_close(traced(layer, params, *shaped((xs, carry)), **shaped(sequence)), shaped(expected), atol=1e-15)
    first = partial(jax.tree.map, lambda leaf: jnp.moveaxis(leaf, len(batch_shape), 0))
    time_major = LSTM(UNITS, time_major=True)
    got = traced(time_major, params, first(shaped(xs)), shaped(carry), **shaped(sequence))
    assert_close(got, first(shaped(expected)), atol=1e-15)


def test_a_trace_has_the_compute_dtype():
    """The layer's, and that of the inputs where it has none."""
    layer, params, xs, carry = problem(LSTM(UNITS, dtype="float32"))
    assert traced(layer, params, xs, carry).f.dtype == jnp.float32
    assert traced(LSTM(UNITS), params, jnp.asarray(xs, "bfloat16"), carry).o.dtype == jnp.bfloat16


def test_saturation_counts_steps():
    """Shares of the steps that count, by gate and unit; of the candidate the size matters and not the sign."""
    given, lengths = problem(LSTM(UNITS)), np.array([4, 2])
    seen = traced(*given, lengths=lengths)
    below, above = saturation(seen, 0.3, 0.6)
    for name in ("i", "f", "g", "o"):
        steps = np.concatenate([np.abs(getattr(seen, name))[b, :n] for b, n in enumerate(lengths)])
        assert_close(getattr(below, name), (steps < 0.3).mean(0), atol=1e-15)
        assert_close(getattr(above, name), (steps > 0.6).mean(0), atol=1e-15)
    assert 0 < np.mean(below) < 1


def test_saturation_of_layers_and_of_nothing():
    """A tree of traces gives a tree; where no step counts the shares are zero."""
    given = problem(Stack((Bidirectional(LSTM(UNITS)), LSTM(6))))
    lower, upper = saturation(traced(*given))
    assert lower["backward"].above.f.shape == (UNITS,)
    assert upper.below.o.shape == (6,)
    nothing = saturation(traced(*given, lengths=np.zeros(BATCH, int)))
    assert_close(nothing, jax.tree.map(np.zeros_like, nothing), atol=0)


def unrolled(layer, params, xs, disturbance, loss_fn):
    """L and the carries after all steps, when something is added to every carry and to the h that is put out."""
    carry, ys, carries = layer.initial_carry(params, xs.shape[:1]), [], []
    for t in range(xs.shape[1]):
        carry, y = layer.step(params, carry, xs[:, t])
        here = jax.tree.map(lambda leaf, t=t: leaf[t], disturbance)
        carry = jax.tree.map(jnp.add, carry, here)
        ys.append(y + here.h)
        carries.append(carry)
    return loss_fn(jnp.stack(ys, 1)), carries[-1]


def weighted(ys):
    """A loss in which every output counts, and not linearly."""
    return jnp.sum(jnp.sin(ys) * jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape))


def judged_flow(layer, params, xs, loss_fn):
    """The norms by JAX's Jacobians of the unrolled loop, without any scan."""
    carry = layer.initial_carry(params, xs.shape[:1], xs.dtype)
    zero = jax.tree.map(lambda leaf: jnp.zeros((xs.shape[1], *leaf.shape)), carry)
    gradient = jax.grad(lambda d: unrolled(layer, params, xs, d, loss_fn)[0])(zero).h
    name = "c" if hasattr(carry, "c") else "h"
    jacobian = jax.jacobian(lambda d: getattr(unrolled(layer, params, xs, d, loss_fn)[1], name))(zero)
    of_state = np.asarray(getattr(jacobian, name))  # (batch, units, time, batch, units)
    singular = [[np.linalg.svd(of_state[b, :, t, b], compute_uv=False) for b in range(len(xs))] for t in range(xs.shape[1])]
    return np.linalg.norm(gradient, axis=(1, 2)), np.sqrt(np.mean(np.square(singular), axis=(1, 2)))


@pytest.mark.parametrize("cell", [jlstm.LSTMCell(UNITS), ElmanCell(UNITS)], ids=repr)
def test_gradient_flow_equals_jacobians(cell):
    """The norms are those of jax.grad and jax.jacobian on the unrolled loop, with the singular values themselves."""
    layer, params, xs, _ = problem(RNN(cell))
    got = flowed(layer, params, xs, weighted)
    loss, state = judged_flow(layer, params, xs, weighted)
    assert_close((got.loss, got.state), (loss, state), rtol=1e-12, atol=0)
    if isinstance(cell, ElmanCell):
        assert got.forget is None
    else:
        f = np.asarray(trace(layer, params, xs).f)
        products = [np.prod(f[:, t + 1 :], axis=1) for t in range(TIME)]
        assert_close(got.forget, np.sqrt(np.mean(np.square(products), axis=(1, 2))), rtol=1e-13, atol=0)


def test_without_a_loss_it_is_the_last_output():
    """Its sum; in float32 too, on any batch shape, time-major, and compiled."""
    layer, params, xs, _ = problem(LSTM(UNITS), dtype=np.float32)
    expected = flowed(layer, params, xs, lambda ys: ys[:, -1].sum())
    assert_close(flowed(layer, params, xs), expected, atol=0)
    assert_close(flowed(layer, params, xs[None]), expected, rtol=1e-5, atol=0)  # float32 rounding
    swapped = flowed(LSTM(UNITS, time_major=True), params, xs.swapaxes(0, 1))
    assert_close(swapped, expected, rtol=1e-5, atol=0)
    assert expected.state.dtype == jnp.float32


def test_a_reversed_layer_flows_the_other_way():
    """Its last step is the first of the inputs."""
    layer, params, xs, _ = problem(LSTM(UNITS))
    forward = flowed(layer, params, xs[:, ::-1], lambda ys: weighted(ys[:, ::-1]))
    backward = flowed(LSTM(UNITS, reverse=True), params, xs, weighted)
    assert_close(backward, jax.tree.map(lambda leaf: leaf[::-1], forward), rtol=1e-12, atol=0)
    assert float(backward.state[0]) == pytest.approx(1, abs=1e-15)


def test_in_layers_the_loss_is_that_of_the_whole():
    """What arrives at a lower layer went through the ones above it, and in two directions each has its share."""
    lower, upper = Bidirectional(LSTM(UNITS), "mul"), LSTM(6)
    layer, params, xs, _ = problem(Stack((lower, upper)))
    (below, above) = flowed(layer, params, xs, weighted)
    (_, ys), (one, both) = lower.apply(params[0], xs), params[::-1]
    assert_close(above, flowed(upper, one, ys, weighted), rtol=1e-12, atol=0)
    backward = LSTM(UNITS, reverse=True).apply(both["backward"], xs)[1]
    through = lambda forward: weighted(upper.apply(one, forward * backward)[1])
    assert_close(below["forward"], flowed(LSTM(UNITS), both["forward"], xs, through), rtol=1e-12, atol=0)
    unmerged = flowed(Bidirectional(LSTM(UNITS), None), both, xs)
    assert unmerged["backward"].loss[-1] > 0
    np.testing.assert_array_equal(unmerged["backward"].loss[:-1], 0)  # it runs from the end, where L is read off


def test_saturated_gates_give_a_power_of_the_forget_gate():
    """Without recurrent weights c decays by f a step, whatever comes in: state and forget both are f to the power T - t."""
    bias = np.repeat([100.0, 0.3, 0.0, 100.0], UNITS)
    params = {"kernel": np.ones((FEATURES, 4 * UNITS)) * np.repeat([1, 0, 1, 1], UNITS), "bias": bias}
    params["recurrent_kernel"] = np.zeros((UNITS, 4 * UNITS))
    _, _, xs, _ = problem(LSTM(UNITS), time=60)
    flow = flowed(LSTM(UNITS), params, xs)
    powers = textbook.sigmoid(np.array(0.3)) ** np.arange(60)[::-1]
    assert_close((flow.state, flow.forget), (powers, powers), rtol=1e-12, atol=0)


def test_a_linear_network_gives_powers_of_its_matrix():
    """∂h_T/∂h_t is U to the power T - t, and ∂L/∂h_t its row sums, for each of the sequences."""
    layer, params, xs, _ = problem(RNN(ElmanCell(UNITS, activation="linear")))
    flow = flowed(layer, params, xs)
    powers = np.array([np.linalg.matrix_power(params["recurrent_kernel"], k) for k in range(TIME)[::-1]])
    assert_close(flow.state, np.linalg.norm(powers, axis=(1, 2)) / np.sqrt(UNITS), rtol=1e-12, atol=0)
    assert_close(flow.loss, np.sqrt(BATCH) * np.linalg.norm(powers.sum(2), axis=1), rtol=1e-12, atol=0)


def test_small_gradients_are_not_lost():
    """In float32 norms go down to 1e-37, though their squares are zero."""
    layer = RNN(ElmanCell(UNITS, activation="linear"))
    params = {"kernel": np.zeros((FEATURES, UNITS)), "recurrent_kernel": 0.1 * np.eye(UNITS), "bias": np.zeros(UNITS)}
    flow = flowed(layer, params, np.ones((BATCH, 40, FEATURES), np.float32))
    assert_close(flow.state[4:], 0.1 ** np.arange(40.0)[::-1][4:], rtol=1e-5, atol=0)
    np.testing.assert_array_equal(flow.state[0], 0)


def test_gradients_are_compiled_once():
    """Other values of the same shape run the same program."""
    layer, params, xs, _ = problem(LSTM(UNITS))
    compiled = jax.jit(partial(gradient_flow, layer))
    for scale in (1.0, 2.0):
        assert isinstance(compiled(params, xs * scale), Flow)
    assert compiled._cache_size() == 1


LAYER, ELMAN, MEAN = LSTM(UNITS), RNN(ElmanCell(UNITS)), RNN(RunningMean(FEATURES))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p, xs: trace(ELMAN, ELMAN.init(jax.random.key(0), FEATURES), xs),
            "trace needs a cell with gates such as LSTMCell",
        ),
        (lambda p, xs: trace(LAYER, p, xs, lengths=[9, 1]), "lengths must lie between 0 and the 5 time steps of xs, got 9"),
        (lambda p, xs: trace(Stack((LAYER, LAYER)), (p,), xs), "is missing"),
        (lambda p, xs: trace(LAYER, p, xs, Carry(np.zeros((3, UNITS)), np.zeros((3, UNITS)))), "carry.h must have shape"),
        (lambda p, xs: saturation(trace(LAYER, p, xs), 0.9, 0.1), "with 0 ≤ low ≤ high ≤ 1, got 0.9 and 0.1"),
        (lambda p, xs: gradient_flow(LAYER, p, xs[:, :0]), "needs at least one time step"),
        (lambda p, xs: gradient_flow(MEAN, MEAN.init(jax.random.key(0), FEATURES), xs), "a cell that carries h and returns it"),
        (lambda p, xs: gradient_flow(LAYER.cell, p, xs), "layer must be a Layer such as"),
    ],
)
def test_bad_input_gives_one_sentence(call, message):
    """Which says what was expected."""
    _, params, xs, _ = problem(LAYER)
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        call(params, xs)
    assert "\n" not in str(caught.value)
