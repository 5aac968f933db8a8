"""One training step, as a pure function of the state and a batch; and several of them in one call."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from jlstm.cell import Params, PyTree
from jlstm.data import Batch
from jlstm.train import sharding
from jlstm.train.outcome import LossFunction, Outcome, mean, outcome_of, sums


class State(NamedTuple):
    """All that a training step changes.

    `sums` are totals since the last record: of weights, and of weighted losses, gradient norms and metrics. Once a loss, a
    gradient or a change is not finite, `finite` is false and nothing changes any more: `step` is then the number of steps
    before that one.
    """

    params: Params
    moments: PyTree
    carry: PyTree
    step: Int[Array, ""]
    finite: Bool[Array, ""]
    sums: dict[str, Float[Array, ""]]


class Pulse(NamedTuple):
    """What can be looked at while the next step, which reuses the state's buffers, is under way."""

    finite: Bool[Array, ""]
    sums: dict[str, Float[Array, ""]]


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def advance(
    loss_fn: LossFunction, optimizer: optax.GradientTransformation, mesh: Mesh | None, state: State, key: Array, batch: Batch
) -> tuple[State, Pulse]:
    """Take one step."""
    return _settled(mesh, _step(loss_fn, optimizer, state, key, batch))


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def advance_several(
    loss_fn: LossFunction, optimizer: optax.GradientTransformation, mesh: Mesh | None, state: State, key: Array, batches: Batch
) -> tuple[State, Pulse]:
    """Take one step for each of the batches, which are stacked along a first axis."""

    def step(state: State, batch: Batch) -> tuple[State, None]:
        return _step(loss_fn, optimizer, state, key, batch), None

    return _settled(mesh, jax.lax.scan(step, state, batches)[0])


@partial(jax.jit, static_argnums=0)
def measure(loss_fn: LossFunction, params: Params, carry: PyTree, batch: Batch) -> tuple[PyTree, dict[str, Array]]:
    """Return the carry for the next batch, and the weighted sums of losses and metrics; no key means no dropout."""
    outcome = outcome_of(loss_fn, params, batch, None, carry)
    return outcome.carry, sums(outcome, jnp.asarray(batch.weights))


def _settled(mesh: Mesh | None, state: State) -> tuple[State, Pulse]:
    return sharding.constrain(mesh, state), jax.tree.map(jnp.copy, Pulse(state.finite, state.sums))


def _step(loss_fn: LossFunction, optimizer: optax.GradientTransformation, state: State, key: Array, batch: Batch) -> State:
    weights = jnp.asarray(batch.weights)

    def loss(params: Params) -> tuple[Array, Outcome]:
        outcome = outcome_of(loss_fn, params, batch, jax.random.fold_in(key, state.step), state.carry)
        return mean(outcome.losses, weights), outcome

    (value, outcome), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    changes, moments = optimizer.update(gradients, state.moments, state.params)
    norm = _norm(gradients)
    finite = state.finite & jnp.isfinite(value) & jnp.isfinite(norm) & jnp.isfinite(_norm(changes))
    added = sums(outcome, weights) | {"grad_norm": norm * weights.sum()}
    totals = {name: total + added[name] for name, total in state.sums.items()}
    new = State(optax.apply_updates(state.params, changes), moments, outcome.carry, state.step + 1, finite, totals)
    return jax.tree.map(partial(jnp.where, finite), new, state._replace(finite=finite))


def _norm(tree: PyTree) -> Float[Array, ""]:
    """Squares overflow in 16 bits."""
    return optax.tree.norm(jax.tree.map(lambda leaf: leaf.astype(np.promote_types(leaf.dtype, "float32")), tree)).astype(
        "float32"
    )
