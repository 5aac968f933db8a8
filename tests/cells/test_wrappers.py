"""Wrappers against their equations, and their random masks against expected frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm import RNN
from jlstm.cells import GRUCell, LSTMCell
from jlstm.cells.wrappers import Dropout, Highway, LearnedCarry, Residual, WeightDrop, Wrapper, Zoneout
from problems import BATCH, FEATURES, TIME, UNITS, apply, normal, small_problem

pytestmark = pytest.mark.no_cover

CELL = LSTMCell(UNITS)
RNG = np.random.default_rng(7)


def steps(params, xs, carry, inputs=None, outputs=None, state=None, zoneout=None):
    """Run an LSTM step by step, with factors of x, y and h and zoneout of the carry. Masks have shape (time, batch, size)."""
    h, c = carry
    ys = []
    for t in range(xs.shape[1]):
        x = xs[:, t] if inputs is None else xs[:, t] * inputs[t]
        i, f, g, o = np.split(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"], 4, -1)
        sigmoid = lambda a: 1 / (1 + np.exp(-a))
        new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        new_h = sigmoid(o) * np.tanh(new_c)
        y = new_h
        if zoneout is not None:
            new_h, new_c = (k[t] * old + (1 - k[t]) * new for k, old, new in zip(zoneout, (h, c), (new_h, new_c), strict=True))
            y = new_h
        h, c = new_h if state is None else new_h * state[t], new_c
        ys.append(y if outputs is None else y * outputs[t])
    return (h, c), np.stack(ys, 1)


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_multiplies_inputs_outputs_and_h(variational, x64):
    """`dropout_masks` has the factors, one for each step or one for all. The output's factor is not handed on."""
    layer, params, xs, carry = small_problem(RNN(Dropout(CELL, inputs=0.5, outputs=0.5, state=0.5, variational=variational)))
    sizes = {"inputs": FEATURES, "outputs": UNITS, "state": UNITS}
    dropout_masks = {name: RNG.normal(size=(BATCH, size) if variational else (TIME, BATCH, size)) for name, size in sizes.items()}
    masks = {name: np.broadcast_to(mask, (TIME, *mask.shape)) if variational else mask for name, mask in dropout_masks.items()}
    last, ys = apply(layer, params, xs, carry, dropout_masks=dropout_masks)
    expected_last, expected_ys = steps(params, xs, carry, **masks)
    np.testing.assert_allclose(ys, expected_ys, rtol=1e-12)
    np.testing.assert_allclose(last, expected_last, rtol=1e-12)


def test_zoneout_keeps_some_of_h_and_c(x64):
    """The masks say which values are kept, and h comes from the new c. In inference, both are averaged by the rates."""
    layer, params, xs, carry = small_problem(RNN(Zoneout(CELL, h=0.3, c=0.6)))
    zoneout = [(RNG.random((TIME, BATCH, UNITS)) < 0.5).astype(float) for _ in "hc"]
    for dropout_masks, shares in (
        ({"h": zoneout[0], "c": zoneout[1]}, zoneout),
        (None, [np.full((TIME, 1, 1), rate) for rate in (0.3, 0.6)]),
    ):
        last, ys = apply(layer, params, xs, carry, dropout_masks=dropout_masks)
        expected_last, expected_ys = steps(params, xs, carry, zoneout=shares)
        np.testing.assert_allclose(ys, expected_ys, rtol=1e-12)
        np.testing.assert_allclose(last, expected_last, rtol=1e-12)


def test_zoneout_of_all_keeps_the_carry(x64):
    """With rate 1 the carry stays."""
    layer, params, xs, carry = small_problem(RNN(Zoneout(CELL, h=1.0, c=1.0)))
    np.testing.assert_array_equal(apply(layer, params, xs, carry, key=jax.random.key(0))[0], carry)


def test_dropped_weights_are_those_of_a_cell_with_zeros(x64):
    """One mask serves all steps and all sequences of the batch."""
    layer, params, xs, carry = small_problem(RNN(WeightDrop(CELL, rate=0.5)))
    factors = 2.0 * (RNG.random(params["recurrent_kernel"].shape) < 0.5)
    masked = params | {"recurrent_kernel": params["recurrent_kernel"] * factors}
    got = apply(layer, params, xs, carry, dropout_masks={"recurrent_kernel": factors})
    expected = apply(RNN(CELL, backend="scan"), masked, xs, carry)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, expected)
    of_scan = apply(RNN(layer.cell, backend="scan"), params, xs, carry, dropout_masks={"recurrent_kernel": factors})
    jax.tree.map(np.testing.assert_array_equal, of_scan, expected)


def test_residual_and_highway_are_their_equations(x64):
    """Residual gives y + x, and Highway t y + (1 - t) x."""
    cell = GRUCell(FEATURES)
    layer, params, xs, _ = small_problem(RNN(Highway(cell)))
    inner = apply(RNN(cell), params["cell"], xs)[1]
    t = 1 / (1 + np.exp(-(xs @ params["kernel"] + params["bias"])))
    np.testing.assert_allclose(apply(layer, params, xs)[1], t * inner + (1 - t) * xs, rtol=1e-12)
    np.testing.assert_allclose(apply(RNN(Residual(cell)), params["cell"], xs)[1], inner + xs, rtol=1e-12)


def test_a_learned_carry_begins_resets_and_learns(x64):
    """It equals the same carry passed in, resets restore it, and its gradient sums over sequences."""
    layer, params, xs, _ = small_problem(RNN(LearnedCarry(CELL)))
    start = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (BATCH, *leaf.shape)), params["carry"])
    resets = np.zeros((BATCH, TIME), bool)
    resets[:, 2] = True
    _, ys = apply(layer, params, xs, resets=resets)
    _, first = apply(RNN(CELL), params["cell"], xs[:, :2], start)
    _, second = apply(RNN(CELL), params["cell"], xs[:, 2:], start)
    np.testing.assert_allclose(ys, np.concatenate([first, second], 1), rtol=1e-12)
    of_params = jax.grad(lambda p: layer.apply(p, xs)[1].sum())(params)["carry"]
    of_start = jax.grad(lambda c: RNN(CELL).apply(params["cell"], xs, c)[1].sum())(start)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b.sum(0), rtol=1e-10), of_params, of_start)


def ratio_of(cell, key):
    """Return outputs with dropout divided by outputs without, on constant inputs."""
    layer = RNN(cell)
    params = layer.init(jax.random.key(0), FEATURES)
    xs = jnp.ones((BATCH, TIME, FEATURES))
    return layer.apply(params, xs, key=key)[1] / layer.apply(params, xs)[1]


def test_masks_have_their_mean_and_variance():
    """Factors of 0 and 1 / keep have mean 1 and variance rate / keep. They change each step unless variational."""
    keys = jax.random.split(jax.random.key(0), 2000)
    for variational in (False, True):
        cell = Dropout(CELL, outputs=0.25, variational=variational)
        factors = jax.jit(jax.vmap(lambda key, cell=cell: ratio_of(cell, key)))(keys)
        np.testing.assert_allclose(factors.mean(0), 1, atol=5 * np.sqrt(0.25 / 0.75 / 2000))
        np.testing.assert_allclose(factors.var(0), 0.25 / 0.75, rtol=0.2)
        same = np.isclose(factors[:, :, :1], factors).mean()
        assert same == 1 if variational else same < 0.8


def test_chunks_do_not_repeat_their_masks():
    """`remat` does not change the masks of each step: they are drawn for the whole sequence."""
    cell = Dropout(Zoneout(CELL, h=0.2, c=0.2), inputs=0.3, outputs=0.4, state=0.2)
    params = RNN(cell).init(jax.random.key(0), FEATURES)
    xs = normal(np.empty((BATCH, TIME, FEATURES)), rng=RNG, dtype=np.float32)
    plain, chunked = (RNN(cell, remat=remat).apply(params, xs, key=jax.random.key(1))[1] for remat in (False, 2))
    np.testing.assert_allclose(plain, chunked, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Zoneout(CELL, h=1.5), "h must be from 0 to 1, got 1.5"),
        (lambda: Dropout(CELL, inputs=1.0), "inputs must be a rate in"),
        (lambda: Residual(CELL).init(jax.random.key(0), FEATURES), "inputs must have 4 features as the outputs have, got 3"),
        (
            lambda: RNN(WeightDrop(CELL)).apply(CELL.init(jax.random.key(0), 3), np.ones((2, 5, 3)), dropout_masks={"x": 1}),
            "a key of the dropout masks of WeightDrop must be",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, words):
    """Invalid options are refused in one sentence."""
    with pytest.raises(ValueError, match=words):
        make()


def test_a_wrapper_needs_a_cell():
    """A wrapper refuses a layer."""
    with pytest.raises(TypeError, match=r"cell must be a Cell such as LSTMCell\(units\)"):
        Zoneout(RNN(CELL))


def test_a_wrapper_draws_only_its_own_part():
    """`outer_context` gets the first half of the key and the wrapper's own masks; the inner cell gets the others."""
    calls = []

    class Observer(Wrapper):
        mask_names = ("own",)

        def outer_context(self, params, batch_shape, dtype, key, dropout_masks):
            calls.append((key, dropout_masks))
            return "drawn"

    cell, key = Observer(WeightDrop(CELL)), jax.random.key(3)
    params = cell.init(jax.random.key(0), FEATURES)
    factors = 2 * jnp.eye(UNITS, 4 * UNITS)
    with_key = cell.begin(params, (BATCH,), "float32", key=key)[1]
    with_masks = cell.begin(params, (BATCH,), "float32", dropout_masks={"own": 1, "cell": {"recurrent_kernel": factors}})[1]
    outer_key, inner_key = jax.random.split(key)
    assert calls == [(outer_key, None), (None, {"own": 1})]
    assert with_key.outer == with_masks.outer == "drawn"
    inner = cell.cell.begin(params, (BATCH,), "float32", key=inner_key)[1]
    np.testing.assert_array_equal(with_key.inner.outer, inner.outer)
    np.testing.assert_array_equal(with_masks.inner.outer, factors)


WRAPPERS = {
    "Dropout": lambda cell: Dropout(cell, inputs=0.3, outputs=0.4, state=0.2),
    "variational": lambda cell: Dropout(cell, inputs=0.3, outputs=0.4, state=0.2, variational=True),
    "Zoneout": lambda cell: Zoneout(cell, h=0.3, c=0.4),
    "WeightDrop": lambda cell: WeightDrop(cell, rate=0.3),
    "Residual": Residual,
    "Highway": Highway,
    "LearnedCarry": LearnedCarry,
}
REFUSED = {("Zoneout", inner): ValueError for inner in ("Dropout", "variational", "Residual", "Highway")}
REFUSED |= {("WeightDrop", inner): TypeError for inner in ("Highway", "LearnedCarry")}


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("outer", WRAPPERS)
@pytest.mark.parametrize("inner", WRAPPERS)
def test_every_pair_of_wrappers(outer, inner):
    """A pair gives the same with `remat`, and backwards if no mask belongs to a step; or it is refused."""

    def run(**options):
        layer = RNN(WRAPPERS[outer](WRAPPERS[inner](LSTMCell(FEATURES))), **options)
        xs = normal(np.empty((BATCH, TIME, FEATURES)), rng=np.random.default_rng(3), dtype=np.float32)
        flipped = xs[:, ::-1] if layer.reverse else xs
        with jax.disable_jit():  # drawing takes longer to compile than to run
            params = layer.init(jax.random.key(0), FEATURES)
            carry, ys = layer.apply(params, flipped, key=jax.random.key(1))
        return carry, ys[:, ::-1] if layer.reverse else ys

    if (outer, inner) in REFUSED:
        with pytest.raises(REFUSED[outer, inner], match=r"put (Zoneout inside|it around the innermost)"):
            run()
        return
    carry, ys = run()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), (carry, ys), run(remat=2))
    masks_per_step = {"Dropout", "Zoneout"} & {outer, inner}  # its masks belong to a step, whatever the direction
    if not masks_per_step:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), (carry, ys), run(reverse=True))


def test_what_is_drawn_has_its_share():
    """The share of zeros among many draws is the rate, and no two masks are correlated."""
    cell = WRAPPERS["Zoneout"](WRAPPERS["WeightDrop"](LSTMCell(50)))
    cell = WRAPPERS["variational"](WRAPPERS["Dropout"](cell))
    key, params = jax.random.key(4), cell.init(jax.random.key(0), 50)
    _, context = cell.begin(params, (40,), "float32", key=key)
    fresh = cell.step_masks(params, (30, 40), "float32", key=key)
    weights, zoneout_noise = context.inner.inner.inner.outer, fresh.inner.inner.outer
    shares = [(context.outer[name], rate) for name, rate in (("inputs", 0.3), ("outputs", 0.4), ("state", 0.2))]
    shares += [(fresh.inner.outer[name], rate) for name, rate in (("inputs", 0.3), ("outputs", 0.4), ("state", 0.2))]
    for mask, rate in [*shares, (weights, 0.3)]:
        assert set(np.unique(mask)) == {0, np.float32(1) / np.float32(1 - rate)}
        np.testing.assert_allclose(np.mean(mask == 0), rate, atol=5 * np.sqrt(rate * (1 - rate) / mask.size))
    for name, rate in (("h", 0.3), ("c", 0.4)):
        np.testing.assert_allclose(
            zoneout_noise[name].mean(), rate, atol=5 * np.sqrt(rate * (1 - rate) / zoneout_noise[name].size)
        )
    zeroed = [*(mask == 0 for mask, _ in shares), weights == 0, zoneout_noise["h"] == 1, zoneout_noise["c"] == 1]
    first = [np.ravel(mask)[:1500].astype(float) for mask in zeroed]
    correlations = np.corrcoef(first)[~np.eye(len(first), dtype=bool)]
    assert np.abs(correlations).max() < 0.15
