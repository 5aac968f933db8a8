"""Variational dropout draws one mask for a sequence from a key, or takes a given one. Without either there is none."""

import jax
import numpy as np
import pytest

from jlstm import LSTM, Bidirectional, Stack
from problems import (
    BATCH,
    FEATURES,
    TIME,
    UNITS,
    apply,
    assert_close,
    cotangent_of,
    differentiate,
    flags,
    small_problem,
    textbook_results,
)

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("x64")]

RATES = {
    "inputs": {"dropout": 0.4},
    "recurrent": {"recurrent_dropout": 0.4},
    "both": {"dropout": 0.3, "recurrent_dropout": 0.6},
}
MASKS = {"inputs": {"inputs": 1}, "recurrent": {"recurrent": 4}, "both": {"inputs": 4, "recurrent": 4}}
SIZES = {"inputs": FEATURES, "recurrent": UNITS}
KEY = jax.random.key(11)


def masks_from_key(layer, params, key=KEY, batch=(BATCH,), dtype="float64"):
    """Return the masks that a key draws."""
    return layer.cell.begin(params, batch, dtype, key=key)[1]


def random_masks(rng, masks=MASKS["both"], batch=BATCH):
    """Return random positive factors, unlike any that dropout draws."""
    return {name: rng.uniform(0.5, 2, (gates, batch, SIZES[name])) for name, gates in masks.items()}


@pytest.mark.parametrize(
    "masks", [{}, {"inputs": 1}, {"recurrent": 1}, {"inputs": 4, "recurrent": 4}, {"inputs": 1, "recurrent": 4}]
)
def test_masks_equal_the_textbook(masks):
    """Values and gradients under given masks, for each gate or for all, with padding, equal float64 NumPy."""
    problem = small_problem(LSTM(UNITS))
    dropout_masks, mask, cotangent = random_masks(np.random.default_rng(0), masks), flags(0.7), cotangent_of(problem)
    got = differentiate(problem.layer, cotangent, *problem[1:], mask=mask, dropout_masks=dropout_masks)
    assert_close(got, textbook_results(*problem, cotangent, mask, dropout_masks=dropout_masks), atol=1e-12)


def test_masks_of_wrapped_layers():
    """Bidirectional takes a dict of dropout masks, and Stack a tuple. None in it means no dropout masks."""
    problem = small_problem(Stack((Bidirectional(LSTM(UNITS), "sum"), LSTM(6, reverse=True))))
    dropout_masks = ({"forward": random_masks(np.random.default_rng(0)), "backward": None}, None)
    cotangent = cotangent_of(problem)
    got = differentiate(problem.layer, cotangent, *problem[1:], dropout_masks=dropout_masks)
    assert_close(got, textbook_results(*problem, cotangent, dropout_masks=dropout_masks), atol=1e-12)


@pytest.mark.parametrize("name", RATES)
def test_masks_that_are_drawn(name):
    """Input dropout alone draws one mask for all gates. Recurrent dropout draws one for each gate, for the inputs too."""
    layer, params, *_ = small_problem(LSTM(UNITS, **RATES[name]))
    masks = masks_from_key(layer, params)
    assert {k: mask.shape for k, mask in masks.items()} == {k: (g, BATCH, SIZES[k]) for k, g in MASKS[name].items()}
    for k, mask in masks.items():
        rate = RATES[name]["dropout" if k == "inputs" else "recurrent_dropout"]
        np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - rate)], rtol=1e-15)


@pytest.mark.parametrize("name", RATES)
def test_a_key_is_the_masks_that_it_draws(name):
    """Running with a key equals handing in the masks that the key draws, and differs from another key's."""
    layer, params, xs, carry = small_problem(LSTM(UNITS, **RATES[name]))
    with_key = apply(layer, params, xs, carry, key=KEY)
    assert_close(with_key, apply(layer, params, xs, carry, dropout_masks=masks_from_key(layer, params)), atol=1e-15)
    assert_close(with_key, apply(layer, params, xs, carry, key=KEY), atol=0)
    assert np.abs(with_key[1] - apply(layer, params, xs, carry, key=jax.random.key(12))[1]).max() > 0.01


@pytest.mark.parametrize("options", [{"remat": 2}, {"unroll": True}, {"reverse": True}, {"time_major": True}], ids=repr)
def test_masks_do_not_depend_on_how_it_is_run(options):
    """Remat, unrolling, direction and the axis of time do not change the masks."""
    _, params, xs, carry = small_problem(LSTM(UNITS))
    plain, layer = LSTM(UNITS, **RATES["both"]), LSTM(UNITS, **RATES["both"], **options)
    turn = {"reverse": lambda a: a[:, ::-1], "time_major": lambda a: a.swapaxes(0, 1)}.get(next(iter(options)), lambda a: a)
    expected, ys = apply(plain, params, xs, carry, key=KEY)
    assert_close(apply(layer, params, turn(xs), carry, key=KEY), (expected, turn(ys)), atol=1e-14)


def test_without_a_key_it_is_inference():
    """Without a key the results are those of a layer without dropout. A rate of zero draws nothing."""
    _, params, xs, carry = small_problem(LSTM(UNITS))
    expected = apply(LSTM(UNITS), params, xs, carry)
    assert_close(apply(LSTM(UNITS, **RATES["both"]), params, xs, carry), expected, atol=0)
    assert_close(apply(LSTM(UNITS), params, xs, carry, key=KEY), expected, atol=0)
    jaxpr = str(jax.make_jaxpr(lambda key: LSTM(UNITS).apply(params, xs, key=key))(KEY))
    assert "random" not in jaxpr
    assert "threefry" not in jaxpr


def test_one_mask_for_the_whole_sequence():
    """A dropped input feature is dropped at every step: its gradient is zero at all steps or at none."""
    layer, params, xs, carry = small_problem(LSTM(UNITS, dropout=0.5), batch=16)
    gradient = jax.grad(lambda xs: apply(layer, params, xs, carry, key=KEY)[1].sum())(xs)
    dropped = np.asarray(gradient == 0)
    assert np.array_equal(dropped.all(axis=1), dropped.any(axis=1))
    np.testing.assert_array_equal(dropped[:, 0], masks_from_key(layer, params, batch=(16,))["inputs"][0] == 0)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_mean_is_preserved(rate):
    """Over 1,000 keys the masks average 1, and zeros come at the rate asked for."""
    layer, params, *_ = small_problem(LSTM(UNITS, dropout=rate, recurrent_dropout=rate))
    masks = jax.vmap(lambda key: masks_from_key(layer, params, key))(jax.random.split(KEY, 1000))
    for mask in masks.values():
        deviation = np.sqrt(rate / (1 - rate) / mask.size)
        np.testing.assert_allclose(mask.mean(), 1, atol=4 * deviation)  # four standard errors
        np.testing.assert_allclose((mask == 0).mean(), rate, atol=4 * deviation)


def test_masks_are_drawn_apart():
    """No two sequences and no two gates share a mask."""
    layer, params, *_ = small_problem(LSTM(UNITS, dropout=0.5, recurrent_dropout=0.5), features=UNITS)
    masks = np.concatenate(list(masks_from_key(layer, params, batch=(64,)).values()))
    assert len(np.unique(masks.reshape(8, -1), axis=0)) == 8
    assert len(np.unique(masks.swapaxes(0, 1).reshape(64, -1), axis=0)) == 64


def test_directions_and_layers_draw_from_keys_of_their_own():
    """Under one key the parts of a Bidirectional and of a Stack run with the masks of different keys."""
    lstm, (a, b) = LSTM(UNITS, dropout=0.5), jax.random.split(KEY)
    for layer in (Bidirectional(lstm), Stack((lstm, lstm))):
        _, params, xs, carry = small_problem(layer, features=UNITS)
        names = ("forward", "backward") if isinstance(layer, Bidirectional) else (0, 1)
        dropout_masks = {name: masks_from_key(lstm, params[name], key) for name, key in zip(names, (a, b), strict=True)}
        dropout_masks = dropout_masks if isinstance(layer, Bidirectional) else tuple(dropout_masks.values())
        assert_close(
            apply(layer, params, xs, carry, key=KEY), apply(layer, params, xs, carry, dropout_masks=dropout_masks), atol=1e-15
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_masks_have_the_compute_dtype(dtype):
    """Masks and outputs have the dtype in which the layer computes."""
    layer, params, xs, _ = small_problem(LSTM(UNITS, dtype=dtype, **RATES["both"]))
    assert {mask.dtype.name for mask in masks_from_key(layer, params, dtype=dtype).values()} == {dtype}
    assert apply(layer, params, xs, key=KEY)[1].dtype == dtype


def test_legacy_keys_work():
    """A key of the older, unsigned kind gives the same masks as the typed one."""
    layer, params, xs, _ = small_problem(LSTM(UNITS, dropout=0.5))
    assert_close(apply(layer, params, xs, key=jax.random.PRNGKey(11)), apply(layer, params, xs, key=KEY), atol=0)


def test_the_mask_is_constant_in_time():
    """The run under a mask equals the run on inputs multiplied by it beforehand."""
    layer, params, xs, carry = small_problem(LSTM(UNITS, dropout=0.5))
    mask = masks_from_key(layer, params)["inputs"][0]
    assert_close(apply(layer, params, xs, carry, key=KEY), apply(LSTM(UNITS), params, xs * mask[:, None], carry), atol=1e-15)
    assert xs.shape[1] == TIME
