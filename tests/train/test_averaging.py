"""Averages of the parameters over steps, and their use in validation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jlstm.data import Minibatches
from jlstm.train import Outcome, averaged, averaged_params, fit, restore

DATA = np.random.default_rng(0).standard_normal(12).astype(np.float32)
BATCHES = Minibatches(DATA, size=3, seed=0)


def loss_fn(params, x, key, carry):
    return Outcome((params["mean"] - x) ** 2)


def test_the_average_is_the_mean_of_the_parameters_after_start():
    """The steps are those of the optimizer, and the state has the mean of the parameters after the first four."""
    gradients = np.random.default_rng(1).standard_normal((10, 3)).astype(np.float32)
    optimizer, plain = averaged(optax.sgd(0.1, 0.9), start=4), optax.sgd(0.1, 0.9)
    params, state, plain_state, seen = jnp.ones(3), optimizer.init(jnp.ones(3)), plain.init(jnp.ones(3)), []
    for gradient in gradients:
        plain_updates, plain_state = plain.update(gradient, plain_state, params)
        updates, state = jax.jit(optimizer.update)(gradient, state, params)
        np.testing.assert_allclose(updates, plain_updates, rtol=1e-6, atol=1e-6)
        params = optax.apply_updates(params, updates)
        seen.append(params)
        expected = np.mean(seen[4:], axis=0) if len(seen) > 4 else params
        np.testing.assert_allclose(averaged_params(state, params), expected, rtol=1e-6, atol=1e-6)


def test_validation_and_best_take_the_average(tmp_path):
    """The validation loss and the best parameters are those of the average, also after a resumed run."""
    params, optimizer = {"mean": jnp.zeros(())}, averaged(optax.sgd(0.3))
    options = {"validation": BATCHES, "evaluation_params": averaged_params, "checkpoints": tmp_path}
    fit(loss_fn, params, optimizer, BATCHES, epochs=1, **options)
    result = fit(loss_fn, params, optimizer, BATCHES, epochs=3, **options)
    seen, state = [], (params, optimizer.init(params))
    for epoch in range(3):
        for batch in BATCHES.epoch(epoch):
            gradient = {"mean": 2 * jnp.mean(state[0]["mean"] - batch.examples)}
            updates, opt_state = optimizer.update(gradient, state[1], state[0])
            state = optax.apply_updates(state[0], updates), opt_state
            seen.append(state[0]["mean"])
    losses = [np.mean((np.mean(seen[: 4 * (k + 1)]) - DATA) ** 2) for k in range(3)]
    np.testing.assert_allclose([record.validation["loss"] for record in result.history], losses, rtol=1e-5)
    np.testing.assert_allclose(result.params["mean"], seen[-1], rtol=1e-5)
    np.testing.assert_allclose(result.best["mean"], np.mean(seen[: 4 * (int(np.argmin(losses)) + 1)]), rtol=1e-5)
    assert restore(tmp_path, params) is not None


def test_mistakes_are_told_in_a_sentence():
    """The sentence says what was expected."""
    with pytest.raises(TypeError, match="optimizer must be one of optax"):
        averaged(0.1)
    with pytest.raises(ValueError, match="start must be a whole number of at least 0"):
        averaged(optax.sgd(0.1), start=-1)
    with pytest.raises(ValueError, match="averaged needs the parameters"):
        averaged(optax.sgd(0.1)).update(jnp.ones(3), averaged(optax.sgd(0.1)).init(jnp.ones(3)))
    with pytest.raises(TypeError, match="opt_state must be a AveragedState"):
        averaged_params(optax.sgd(0.1).init(jnp.ones(3)))
    with pytest.raises(TypeError, match="evaluation_params must be a function"):
        fit(loss_fn, {"mean": jnp.zeros(())}, optax.sgd(0.1), BATCHES, epochs=1, evaluation_params=1)
