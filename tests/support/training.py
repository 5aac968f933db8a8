"""A small network with dropout and a carry, and its data, for the tests of training. It compiles fast."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jlstm.data import Minibatches
from jlstm.train import Outcome

SGD = optax.sgd(0.5)  # shared by all tests, since another optimizer would be compiled again


def init(key=0):
    """Return parameters of a network with one hidden layer."""
    kernel, output = jax.random.split(jax.random.key(key))
    return {"kernel": jax.random.normal(kernel, (3, 5)), "output": jax.random.normal(output, (5,))}


def loss_fn(params, examples, key, carry):
    """Return the logistic loss and whether the answer is right. Half of a given carry is added to the hidden layer."""
    xs, labels = examples
    h = jnp.tanh(xs @ params["kernel"])
    if key is not None:
        h = jnp.where(jax.random.bernoulli(key, 0.8, h.shape), h / 0.8, 0)
    if carry is not None:
        h = carry = h + 0.5 * carry
    logits = h @ params["output"]
    losses = optax.losses.sigmoid_binary_cross_entropy(logits, labels)
    return Outcome(losses, {"accuracy": (logits > 0) == (labels > 0.5)}, carry)


def begin(size):
    """Return zeros as the carry for the first batch of a pass."""
    return jnp.zeros((size, 5))


def batches(count=22, size=4, seed=0):
    """Return six batches of four examples of two classes of noise, the last filled up with two."""
    rng = np.random.default_rng(count)
    labels = rng.integers(0, 2, count).astype(np.float32)
    xs = rng.normal(size=(count, 3)).astype(np.float32) + 0.5 * labels[:, None]
    return Minibatches((xs, labels), size, seed)


def by_hand(loss_fn, params, optimizer, data, steps, key, begin=None):
    """Train by a plain loop with `jax.grad` and the optimizer, over the real examples of each batch."""
    opt_state, losses, norms, carry = optimizer.init(params), [], [], None

    @partial(jax.jit, static_argnames="real")
    def update(params, opt_state, carry, key, examples, real):
        def loss(params):
            outcome = loss_fn(params, examples, key, carry)
            return outcome.losses[:real].mean(), outcome.carry

        (value, carry_out), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        norm = jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradients)))
        return optax.apply_updates(params, updates), opt_state, carry_out, value, norm

    for step in range(steps):
        epoch, index = divmod(step, len(data))
        batch = next(data.epoch(epoch, index))
        real = int(batch.weights.sum())
        carry = begin(data.size) if begin and index == 0 else carry
        step_key = jax.random.fold_in(key, step)
        params, opt_state, carry, value, norm = update(params, opt_state, carry, step_key, batch.examples, real)
        losses.append((float(value), real))
        norms.append((float(norm), real))
    return params, losses, norms


def weighted(pairs):
    """Return the mean of values with different weights."""
    values, weights = np.array(pairs).T
    return (values * weights).sum() / weights.sum()
