"""A loss, gradient or update that is not finite stops training, or its step is left out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jlstm.data import Batch, Minibatches
from jlstm.train import NonFiniteError, Outcome, fit, restore
from jlstm.train.outcome import mean
from problems import assert_equal
from training import SGD, batches, begin, init, loss_fn


def poisoned(step):
    """Return batches of which that of one step, counted from 1, has a NaN."""

    class Poisoned(Minibatches):
        def epoch(self, number, start=0, part=(0, 1)):
            for index, (examples, weights) in enumerate(super().epoch(number, start, part), start):
                if number * len(self) + index + 1 == step:
                    examples = (examples[0] * np.float32("nan"), examples[1])
                yield type(next(super().epoch(0)))(examples, weights)

    return Poisoned(batches().examples, 4, seed=0)


@pytest.mark.table(quick=5)
@pytest.mark.parametrize("steps_per_call", [1, 3])
@pytest.mark.parametrize("step", [1, 5, 6, 7, 12])
def test_nan_stops_the_run_where_it_is(step, steps_per_call, tmp_path):
    """The error has step, batch (in a file too) and earlier parameters. The checkpoint is the last good one."""
    data, folder = poisoned(step), tmp_path / "checkpoints"
    with pytest.raises(NonFiniteError, match=rf"step {step} is not finite.*batch_of_step_{step}\.npz: look") as caught:
        fit(loss_fn, init(), SGD, data, steps=12, every=2, steps_per_call=steps_per_call, checkpoints=folder)
    assert caught.value.step == step - 1
    epoch, index = divmod(step - 1, 6)
    (xs, labels), weights = batch = next(data.epoch(epoch, index))
    assert_equal(caught.value.batch, batch)
    with np.load(folder / f"batch_of_step_{step}.npz") as saved:
        assert_equal(dict(saved), {"examples.0": xs, "examples.1": labels, "weights": weights})
    checkpoint_step = (step - 1) // 2 * 2
    clean = partial(fit, loss_fn, init(), SGD, batches(), every=2, steps_per_call=steps_per_call)
    np.testing.assert_allclose(  # steps may be grouped differently in one call
        caught.value.params["kernel"], clean(steps=step - 1).params["kernel"] if step > 1 else init()["kernel"], rtol=0, atol=1e-6
    )
    if checkpoint_step:
        assert_equal(restore(folder, init()), clean(steps=checkpoint_step).params)
        assert_equal(clean(steps=12, checkpoints=folder).params, clean(steps=12).params)


def test_nan_without_a_folder_is_in_the_error_alone():
    """Without checkpoints the batch is in the error's attribute."""
    with pytest.raises(NonFiniteError, match="its batch is in this error's attribute batch: look"):
        fit(loss_fn, init(), SGD, poisoned(2), epochs=1)


def test_an_update_that_is_not_finite_stops_too():
    """An optimizer that divides by zero is stopped before it changes the parameters."""
    optimizer = optax.stateless(lambda updates, params: jax.tree.map(lambda leaf: leaf / (leaf - leaf), updates))
    with pytest.raises(NonFiniteError, match="the update of step 1 is not finite") as caught:
        fit(loss_fn, init(), optimizer, batches(), epochs=1)
    assert_equal(caught.value.params, init())


def several_poisoned(steps, count=22):
    """Return batches of which those of some steps, counted from 1, have a NaN."""

    class Poisoned(Minibatches):
        def epoch(self, number, start=0, part=(0, 1)):
            for index, (examples, weights) in enumerate(super().epoch(number, start, part), start):
                if number * len(self) + index + 1 in steps:
                    examples = (examples[0] * np.float32("nan"), examples[1])
                yield Batch(examples, weights)

    return Poisoned(batches(count).examples, 4, seed=0)


def left_out_by_hand(optimizer, steps, poisoned_steps, begin=None):
    """Train by a plain loop that counts some batches but takes no step for them."""
    params, carry, losses = init(), None, []
    opt_state, data = optimizer.init(params), batches()
    gradient = jax.jit(
        jax.value_and_grad(
            lambda p, examples, w, key, carry: (mean((o := loss_fn(p, examples, key, carry)).losses, w), o), has_aux=True
        )
    )
    for step in range(steps):
        epoch, index = divmod(step, len(data))
        carry = begin(4) if begin and index == 0 else carry
        if step + 1 in poisoned_steps:
            continue
        examples, weights = next(data.epoch(epoch, index))
        (value, outcome), gradients = gradient(params, examples, weights, jax.random.fold_in(KEY, step), carry)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        params, carry = optax.apply_updates(params, updates), outcome.carry
        losses.append((float(value), weights.sum()))
    return params, losses


KEY = jax.random.key(3)
BAD = {2, 3, 6, 9}
MODES = {
    "skip": (SGD, {"nonfinite": "skip"}),
    "skip, several in a call": (SGD, {"nonfinite": "skip", "steps_per_call": 3}),
    "an optimizer that deals with it": (optax.apply_if_finite(SGD, 5), {}),
    "both": (optax.apply_if_finite(SGD, 1), {"nonfinite": "skip"}),
}


@pytest.mark.table(quick=3)
@pytest.mark.loose
@pytest.mark.parametrize("with_carry", [None, begin], ids=["no carry", "carry"])
@pytest.mark.parametrize("name", MODES)
def test_steps_that_are_not_finite_are_left_out(name, with_carry, caplog):
    """Results equal a plain loop without those batches, which are counted, logged and in no mean."""
    optimizer, options = MODES[name]
    result = fit(loss_fn, init(), optimizer, several_poisoned(BAD), steps=12, every=6, key=KEY, begin=with_carry, **options)
    params, losses = left_out_by_hand(SGD, 12, BAD, with_carry)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=2e-6), result.params, params)
    assert [record.train["skipped"] for record in result.history] == [3, 1]
    for record, part in zip(result.history, (losses[:3], losses[3:]), strict=True):
        values, weights = np.array(part).T
        assert record.train["loss"] == pytest.approx((values * weights).sum() / weights.sum(), abs=2e-6)
    assert caplog.messages[0].startswith("3 of the steps up to 6 were left out")


@pytest.mark.loose
def test_an_optimizer_that_has_had_enough_stops_the_run():
    """After two bad steps in a row `apply_if_finite` lets the third through; a clean run has no count."""
    with pytest.raises(NonFiniteError, match="of step 4 is not finite"):
        fit(loss_fn, init(), optax.apply_if_finite(SGD, 2), several_poisoned({2, 3, 4}), steps=6)
    assert "skipped" not in fit(loss_fn, init(), SGD, batches(), steps=6, nonfinite="skip").history[0].train


def test_a_loss_that_is_not_finite_without_its_gradient_stops():
    """An infinite loss stops the run even if its gradient is finite."""
    loss = lambda params, x, key, carry: Outcome(params["w"] * x + jnp.where(x > 2, jnp.inf, 0))
    with pytest.raises(NonFiniteError, match=r"of step 4 is not finite.*or go on with nonfinite='skip'"):
        fit(loss, {"w": jnp.ones(())}, SGD, Minibatches(np.arange(4, dtype=np.float32), 1), epochs=1)


def test_a_run_of_nothing_but_nan_ends_with_what_it_began():
    """The parameters stay, and means of no steps are NaN."""
    result = fit(loss_fn, init(), SGD, several_poisoned(range(1, 7)), steps=6, nonfinite="skip")
    assert_equal(result.params, init())
    assert np.isnan(result.history[0].train["loss"])
    assert result.history[0].train["skipped"] == 6


@pytest.mark.parametrize("stopped", [2, 4, 7])
def test_a_run_that_leaves_steps_out_resumes_to_the_same_bits(stopped, tmp_path):
    """Parameters, records and counts agree, also after a run that stopped at such a step."""
    run = partial(fit, loss_fn, init(), SGD, several_poisoned(BAD - {2}), every=2, key=KEY)
    whole = run(steps=12, nonfinite="skip")
    if stopped == 4:
        with pytest.raises(NonFiniteError, match="step 3"):
            run(steps=12, checkpoints=tmp_path)
    else:
        run(steps=stopped, nonfinite="skip", checkpoints=tmp_path)
    resumed = run(steps=12, nonfinite="skip", checkpoints=tmp_path)
    assert_equal(resumed.params, whole.params)
    if stopped != 7:  # it made its own record
        assert [record.train for record in resumed.history] == [record.train for record in whole.history]
