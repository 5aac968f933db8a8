"""Training steps as pure functions of a state and a batch, one or several per call."""

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
    """Everything that a training step changes.

    Attributes:
        params: Parameters.
        opt_state: State of the optimizer.
        carry: Carry for the next batch, or None.
        step: Number of steps taken.
        finite: False once a loss, a gradient or an update was not finite and neither the optimizer nor `Rule.skip` handled it.
            From then on steps do not change the state, and `step` is the number of steps before the failing one.
        sums: Totals since the last record: of the weights, of weighted losses, gradient norms and metrics, and of skipped steps.
    """

    params: Params
    opt_state: PyTree
    carry: PyTree
    step: Int[Array, ""]
    finite: Bool[Array, ""]
    sums: dict[str, Float[Array, ""]]


class StepStatus(NamedTuple):
    """A copy of the fields of a state that the host reads while the next step runs. That step donates the state itself."""

    finite: Bool[Array, ""]
    sums: dict[str, Float[Array, ""]]


class Rule(NamedTuple):
    """The static part of a step: loss function, optimizer, and whether to skip steps that are not finite."""

    loss_fn: LossFunction
    optimizer: optax.GradientTransformation
    skip: bool


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def advance(rule: Rule, mesh: Mesh | None, state: State, key: Array, batch: Batch) -> tuple[State, StepStatus]:
    """Take one step. The buffers of `state` are donated.

    Args:
        rule: Loss function and optimizer.
        mesh: Devices, or None.
        state: State before the step.
        key: Random key for dropout, from which the key of this step is made.
        batch: One batch.

    Returns:
        The state after the step, and its status, which stays readable when the next step donates that state.
    """
    return _with_status(mesh, _step(rule, state, key, batch))


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def advance_several(rule: Rule, mesh: Mesh | None, state: State, key: Array, batches: Batch) -> tuple[State, StepStatus]:
    """Take one step per batch. The batches are stacked along a new first axis. Other arguments and results as for `advance`."""

    def step(state: State, batch: Batch) -> tuple[State, None]:
        return _step(rule, state, key, batch), None

    return _with_status(mesh, jax.lax.scan(step, state, batches)[0])


@partial(jax.jit, static_argnums=0)
def measure(loss_fn: LossFunction, params: Params, carry: PyTree, batch: Batch) -> tuple[PyTree, dict[str, Array]]:
    """Return the carry for the next batch and the weighted sums of losses and metrics, without dropout."""
    outcome = outcome_of(loss_fn, params, batch, None, carry)
    return outcome.carry, sums(outcome, jnp.asarray(batch.weights))


def _with_status(mesh: Mesh | None, state: State) -> tuple[State, StepStatus]:
    # The status is a copy, since the next step donates the buffers of the state.
    return sharding.constrain(mesh, state), jax.tree.map(jnp.copy, StepStatus(state.finite, state.sums))


def _step(rule: Rule, state: State, key: Array, batch: Batch) -> State:
    weights = jnp.asarray(batch.weights)

    # The key of a step follows from its number, so that a resumed run draws the same dropout masks.
    def loss(params: Params) -> tuple[Array, Outcome]:
        outcome = outcome_of(rule.loss_fn, params, batch, jax.random.fold_in(key, state.step), state.carry)
        return mean(outcome.losses, weights), outcome

    (loss_value, outcome), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    updates, opt_state = rule.optimizer.update(gradients, state.opt_state, state.params)
    norm = _norm(gradients)
    gradient_is_finite, updates_are_finite = jnp.isfinite(norm), jnp.isfinite(_norm(updates))
    finite = jnp.isfinite(loss_value) & gradient_is_finite & updates_are_finite
    # Whether the optimizer handles a gradient that is not finite, as optax.apply_if_finite does: its update and state are finite.
    handled = ~gradient_is_finite & updates_are_finite & _all_finite(opt_state)
    continues = finite | handled | rule.skip
    # The norm gets the weight of the whole batch, since `means` divides all sums by the sum of the weights.
    step_sums = sums(outcome, weights) | {"grad_norm": norm * weights.sum(), "skipped": jnp.zeros((), "float32")}
    totals = {name: total + step_sums[name] for name, total in state.sums.items()}
    updated = State(optax.apply_updates(state.params, updates), opt_state, outcome.carry, state.step + 1, state.finite, totals)
    skipped = state._replace(step=state.step + 1, finite=continues, sums=state.sums | {"skipped": state.sums["skipped"] + 1})
    # Without `skip`, the parameters and the optimizer state of a handled step count, and any other step changes only `finite`.
    if not rule.skip:
        skipped = _choose(handled, skipped._replace(params=updated.params, opt_state=opt_state), state._replace(finite=continues))
    # The host notices a state that is not finite one call late. Steps that have started until then must not change it.
    return _choose(state.finite, _choose(finite, updated, skipped), state)


def _choose(condition: Bool[Array, ""], yes: State, no: State) -> State:
    return jax.tree.map(partial(jnp.where, condition), yes, no)


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    # With the dtype, since the list of an optimizer without state is empty, and empty lists become float32.
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in floats], bool))


def _norm(tree: PyTree) -> Float[Array, ""]:
    """Return the global norm in float32, since squares overflow in 16 bits."""
    return optax.tree.norm(jax.tree.map(lambda leaf: leaf.astype(np.promote_types(leaf.dtype, "float32")), tree)).astype(
        "float32"
    )
