"""Passes over batches: to train on them, and to measure."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from jlstm.cell import Params, PyTree
from jlstm.data import Batch, Batches
from jlstm.train import sharding
from jlstm.train.step import LossFunction, Pulse, State, advance, advance_several, measure


class Task(NamedTuple):
    """What to train and how, as `fit` explains it."""

    loss_fn: LossFunction
    optimizer: optax.GradientTransformation
    batches: Batches[Any]
    begin: Callable[[int], PyTree] | None
    steps_per_call: int
    mesh: Mesh | None


def initial(task: Task, params: Params) -> State:
    """Return the state before the first step, in arrays of its own."""
    size, first = task.batches.size, next(task.batches.epoch(0))
    carry = task.begin(size) if task.begin else None
    outcome = jax.eval_shape(task.loss_fn, params, first.examples, jax.random.key(0), carry)
    sums = {name: jnp.zeros((), "float32") for name in ("weight", "loss", "grad_norm", *outcome.metrics)}
    state = State(params, task.optimizer.init(params), carry, jnp.zeros((), "int32"), jnp.array(True), sums)
    return sharding.place(task.mesh, state)


def train(task: Task, state: State, key: Array, goal: int, watch: Callable[[int, Pulse], bool]) -> State:
    """Take steps until `goal` have been taken, or `watch` says so, or a loss is not finite.

    Args:
        task: what to train.
        state: consumed.
        key: of the dropout.
        goal: number of steps, from the first of the run.
        watch: called after each call with the number of steps taken and the pulse of the call before.
    """
    step, pulse, part = int(state.step), None, sharding.part(task.mesh, task.batches.size)
    while step < goal:
        epoch, index = divmod(step, len(task.batches))
        if index == 0 and task.begin:
            state = state._replace(carry=sharding.split(task.mesh, task.begin(task.batches.size)))
        end = min(goal - step, len(task.batches) - index)
        for group in _groups(islice(task.batches.epoch(epoch, index, part), end), task.steps_per_call):
            call = advance if len(group) == 1 else advance_several
            batch = group[0] if len(group) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves), *group)
            batch = sharding.feed(task.mesh, batch, axis=int(len(group) > 1))
            before = pulse
            state, pulse = call(task.loss_fn, task.optimizer, task.mesh, state, key, batch)
            step += len(group)
            if before is not None and (not before.finite or watch(step, before)):
                return state
    return state


def evaluate(
    loss_fn: LossFunction,
    params: Params,
    batches: Batches[Any],
    *,
    begin: Callable[[int], PyTree] | None = None,
    mesh: Mesh | None = None,
) -> dict[str, float]:
    """Return the means of the loss and of each metric over one pass, without a key and so without dropout.

    The arguments are those of `fit`; the same function is compiled once. Without `mesh` it is that on which the parameters lie.

    Examples:
        >>> import numpy as np
        >>> from jlstm.data import Minibatches
        >>> from jlstm.train import Outcome, evaluate
        >>> evaluate(lambda params, x, key, carry: Outcome(x), {}, Minibatches(np.float32([1, 2, 6]), size=2))
        {'loss': 3.0}
    """
    mesh = mesh or sharding.mesh_of(params)
    carry = sharding.split(mesh, begin(batches.size)) if begin else None
    totals: dict[str, Any] = {}
    for batch in batches.epoch(0, 0, sharding.part(mesh, batches.size)):
        carry, sums = measure(loss_fn, params, carry, sharding.feed(mesh, batch))
        totals = {name: totals.get(name, 0) + value for name, value in sums.items()}
    return means(totals)


def means(sums: dict[str, Array]) -> dict[str, float]:
    """Divide weighted sums by the sum of the weights."""
    return {name: float(value) / float(sums["weight"]) for name, value in sums.items() if name != "weight"}


def _groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Batches of the same shapes, `size` at a time; the others one by one, so that nothing else need be compiled."""
    group: list[Batch] = []
    for batch in batches:
        if group and _shapes(batch) != _shapes(group[0]):
            yield from ([each] for each in group)
            group = []
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    yield from ([each] for each in group)


def _shapes(batch: Batch) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(batch)]
