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

    `sums` are totals since the last record: of weights, of weighted losses, gradient norms and metrics, and of steps that were
    left out. Once a loss, a gradient or a change is not finite, and nobody deals with it, `finite` is false and nothing changes
    any more: `step` is then the number of steps before that one.
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


class Rule(NamedTuple):
    """How to take a step: what is minimised, by which optimizer, and whether to leave out a step that is not finite."""

    loss_fn: LossFunction
    optimizer: optax.GradientTransformation
    skip: bool


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def advance(rule: Rule, mesh: Mesh | None, state: State, key: Array, batch: Batch) -> tuple[State, Pulse]:
    """Take one step."""
    return _settled(mesh, _step(rule, state, key, batch))


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def advance_several(rule: Rule, mesh: Mesh | None, state: State, key: Array, batches: Batch) -> tuple[State, Pulse]:
    """Take one step for each of the batches, which are stacked along a first axis."""

    def step(state: State, batch: Batch) -> tuple[State, None]:
        return _step(rule, state, key, batch), None

    return _settled(mesh, jax.lax.scan(step, state, batches)[0])


@partial(jax.jit, static_argnums=0)
def measure(loss_fn: LossFunction, params: Params, carry: PyTree, batch: Batch) -> tuple[PyTree, dict[str, Array]]:
    """Return the carry for the next batch, and the weighted sums of losses and metrics; no key means no dropout."""
    outcome = outcome_of(loss_fn, params, batch, None, carry)
    return outcome.carry, sums(outcome, jnp.asarray(batch.weights))


def _settled(mesh: Mesh | None, state: State) -> tuple[State, Pulse]:
    return sharding.constrain(mesh, state), jax.tree.map(jnp.copy, Pulse(state.finite, state.sums))


def _step(rule: Rule, state: State, key: Array, batch: Batch) -> State:
    weights = jnp.asarray(batch.weights)

    def loss(params: Params) -> tuple[Array, Outcome]:
        outcome = outcome_of(rule.loss_fn, params, batch, jax.random.fold_in(key, state.step), state.carry)
        return mean(outcome.losses, weights), outcome

    (value, outcome), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    changes, moments = rule.optimizer.update(gradients, state.moments, state.params)
    norm = _norm(gradients)
    of_gradient, of_changes = jnp.isfinite(norm), jnp.isfinite(_norm(changes))
    finite = jnp.isfinite(value) & of_gradient & of_changes
    # An optimizer such as optax.apply_if_finite makes a finite change of such a gradient, and keeps it out of its own state.
    dealt_with = ~of_gradient & of_changes & _all_finite(moments)
    goes_on = finite | dealt_with | rule.skip
    added = sums(outcome, weights) | {"grad_norm": norm * weights.sum(), "skipped": jnp.zeros((), "float32")}
    totals = {name: total + added[name] for name, total in state.sums.items()}
    new = State(optax.apply_updates(state.params, changes), moments, outcome.carry, state.step + 1, state.finite, totals)
    left_out = state._replace(step=state.step + 1, finite=goes_on, sums=state.sums | {"skipped": state.sums["skipped"] + 1})
    if not rule.skip:
        left_out = _choose(dealt_with, left_out._replace(params=new.params, moments=moments), state._replace(finite=goes_on))
    return _choose(state.finite, _choose(finite, new, left_out), state)


def _choose(condition: Bool[Array, ""], yes: State, no: State) -> State:
    return jax.tree.map(partial(jnp.where, condition), yes, no)


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in floats], bool))


def _norm(tree: PyTree) -> Float[Array, ""]:
    """Squares overflow in 16 bits."""
    return optax.tree.norm(jax.tree.map(lambda leaf: leaf.astype(np.promote_types(leaf.dtype, "float32")), tree)).astype(
        "float32"
    )
