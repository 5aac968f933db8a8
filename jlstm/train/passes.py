"""Passes over batches: to train on them, and to measure."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
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
from jlstm.train.outcome import LossFunction, Outcome, outcome_of
from jlstm.train.step import Pulse, Rule, State, advance, advance_several, measure


class Task(NamedTuple):
    """What to train and how, as `fit` explains it."""

    loss_fn: LossFunction
    optimizer: optax.GradientTransformation
    batches: Batches[Any]
    begin: Callable[[int], PyTree] | None
    steps_per_call: int
    mesh: Mesh | None
    skip: bool = False

    @property
    def rule(self) -> Rule:
        """How to take a step."""
        return Rule(self.loss_fn, self.optimizer, self.skip)

    def carry(self, size: int) -> PyTree:
        """What the first batch of a pass begins with."""
        return jax.tree.map(_strong, self.begin(size)) if self.begin else None

    def facts(self, key: Array) -> dict[str, str]:
        """What must not change in the middle of a run, besides shapes."""
        order = f"{len(self.batches)} of {self.batches.size} examples, seed {self.batches.seed}"
        return {"batches": order, "key": str(jax.random.key_data(key).tolist())}


def initial(task: Task, params: Params) -> State:
    """Return the state before the first step, in arrays of its own."""
    params, carry = jax.tree.map(_strong, params), task.carry(task.batches.size)
    outcome = probe(task, params, task.batches, jax.random.key(0))
    sums = {name: jnp.zeros((), "float32") for name in ("weight", "loss", "grad_norm", "skipped", *outcome.metrics)}
    state = State(params, task.optimizer.init(params), carry, jnp.zeros((), "int32"), jnp.array(True), sums)
    return sharding.place(task.mesh, jax.tree.map(_strong, state))


def probe(task: Task, params: Params, batches: Batches[Any], key: Array | None) -> Outcome:
    """Trace the loss of a batch, so that what cannot be is refused before anything is computed or a checkpoint is opened."""
    own = next(batches.epoch(0, 0, sharding.part(task.mesh, batches.size)))
    whole = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((batches.size, *leaf.shape[1:]), jnp.result_type(leaf)), own)
    return jax.eval_shape(partial(outcome_of, task.loss_fn), params, whole, key, task.carry(batches.size))


def train(task: Task, state: State, key: Array, goal: int, watch: Callable[[int, Pulse], bool]) -> State:
    """Take steps until `goal` have been taken, or `watch` says so, or a loss is not finite.

    While one call computes, the batches of the next are made, and the pulse of the one before is looked at: what is noticed
    there is noticed one call late, which does no harm, since a state that is not finite stays as it is.

    Args:
        task: what to train.
        state: consumed.
        key: of the dropout.
        goal: number of steps, from the first of the run.
        watch: called after each call with the number of steps that are under way or done, and the pulse of the call before.
    """
    before = None
    for step, group in _calls(task, int(state.step), goal):
        if task.begin and step % len(task.batches) == 0:
            state = state._replace(carry=sharding.split(task.mesh, task.carry(task.batches.size)))
        state, pulse = _call(task, state, key, group)
        if before is not None and (not before.finite or watch(step + len(group), before)):
            break
        before = pulse
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

    The arguments are those of `fit`; the same function is compiled once. Without `mesh` it is that on which the parameters lie;
    parameters that lie elsewhere are copied to it.

    Examples:
        >>> import numpy as np
        >>> from jlstm.data import Minibatches
        >>> from jlstm.train import Outcome, evaluate
        >>> evaluate(lambda params, x, key, carry: Outcome(x), {}, Minibatches(np.float32([1, 2, 6]), size=2))
        {'loss': 3.0}
    """
    mesh = mesh or sharding.mesh_of(params)
    params = sharding.spread(mesh, params)
    carry = sharding.split(mesh, jax.tree.map(_strong, begin(batches.size))) if begin else None
    totals: dict[str, Any] = {}
    for batch in batches.epoch(0, 0, sharding.part(mesh, batches.size)):
        carry, sums = measure(loss_fn, params, carry, sharding.feed(mesh, batch))
        totals = {name: totals.get(name, 0) + value for name, value in sums.items()}
    return means(totals)


def means(sums: Mapping[str, Array]) -> dict[str, float]:
    """Divide weighted sums by the sum of the weights; the loss comes first. NaN where nothing was weighed: all was left out."""
    weight = float(sums["weight"]) or math.nan
    return {name: float(sums[name]) / weight for name in sorted(sums, key="loss".__ne__) if name not in ("weight", "skipped")}


def _call(task: Task, state: State, key: Array, group: list[Batch]) -> tuple[State, Pulse]:
    if len(group) == 1:
        return advance(task.rule, task.mesh, state, key, sharding.feed(task.mesh, group[0]))
    batches = sharding.feed(task.mesh, jax.tree.map(lambda *leaves: np.stack(leaves), *group), axis=1)
    return advance_several(task.rule, task.mesh, state, key, batches)


def _calls(task: Task, step: int, goal: int) -> Iterator[tuple[int, list[Batch]]]:
    """The batches of the steps up to `goal`, as many together as one call takes, and the number of steps before each call."""
    part = sharding.part(task.mesh, task.batches.size)
    while step < goal:
        epoch, index = divmod(step, len(task.batches))
        end = min(goal - step, len(task.batches) - index)
        for group in _groups(islice(task.batches.epoch(epoch, index, part), end), task.steps_per_call):
            yield step, group
            step, end = step + len(group), end - len(group)
        if end:
            raise ValueError(f"epoch {epoch} of the batches has {end} fewer than their length, {len(task.batches)}")


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


def _strong(leaf: Any) -> Array:
    """An array that keeps its dtype among others: a weak one would come back as another type, and be compiled for again."""
    return jnp.asarray(leaf, jnp.result_type(leaf))
