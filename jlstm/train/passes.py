"""Training and evaluation loops over batches."""

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
from jlstm.train.arguments import check_measured
from jlstm.train.outcome import LossFunction, Outcome, outcome_of
from jlstm.train.step import Rule, State, StepStatus, advance, advance_several, measure


class Task(NamedTuple):
    """The arguments of `fit` that determine the training steps."""

    loss_fn: LossFunction
    optimizer: optax.GradientTransformation
    batches: Batches[Any]
    begin: Callable[[int], PyTree] | None
    steps_per_call: int
    mesh: Mesh | None
    skip: bool = False

    @property
    def rule(self) -> Rule:
        """The static part of a training step."""
        return Rule(self.loss_fn, self.optimizer, self.skip)

    def carry(self, size: int) -> PyTree:
        """Return the carry for the first batch of a pass, or None."""
        return jax.tree.map(_strong, self.begin(size)) if self.begin else None

    def facts(self, key: Array) -> dict[str, str]:
        """Return descriptions of the data order and the key. They must not change when a run resumes."""
        order = f"{len(self.batches)} of {self.batches.size} examples, seed {self.batches.seed}"
        return {"batches": order, "key": str(jax.random.key_data(key).tolist())}


def initial(task: Task, params: Params) -> State:
    """Return the state before the first step, in new arrays that can be donated."""
    params, carry = jax.tree.map(_strong, params), task.carry(task.batches.size)
    outcome = probe(task, params, task.batches, jax.random.key(0))
    sums = {name: jnp.zeros((), "float32") for name in ("weight", "loss", "grad_norm", "skipped", *outcome.metrics)}
    state = State(params, task.optimizer.init(params), carry, jnp.zeros((), "int32"), jnp.array(True), sums)
    return sharding.place(task.mesh, jax.tree.map(_strong, state))


def probe(task: Task, params: Params, batches: Batches[Any], key: Array | None) -> Outcome:
    """Trace the loss of one batch, to raise errors before any computation and before a checkpoint is opened.

    Args:
        task: The training task.
        params: Parameters.
        batches: Batches, of which the first is read.
        key: Random key, or None for validation.

    Returns:
        The outcome, with shapes instead of arrays.
    """
    # This process loads only its share of a batch, but the step is traced with the size of the whole batch.
    local_batch = next(batches.epoch(0, 0, sharding.part(task.mesh, batches.size)))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((batches.size, *leaf.shape[1:]), jnp.result_type(leaf)), local_batch)
    return jax.eval_shape(partial(outcome_of, task.loss_fn), params, shapes, key, task.carry(batches.size))


def train(task: Task, state: State, key: Array, goal: int, watch: Callable[[int, StepStatus], bool]) -> State:
    """Take steps until the step number is `goal`, `watch` returns true, or a value is not finite.

    While the device computes one call, the host prepares the next batches and reads the status of the previous call. A non-finite
    value is therefore noticed one call late. This is harmless, because steps do not change a state that is not finite.

    Args:
        task: The training task.
        state: State to start from. Its buffers are donated.
        key: Random key for dropout.
        goal: Number of steps to reach, counted from the start of the run.
        watch: Function called after each call with the number of steps started so far and the status of the previous call.
            Training stops when it returns true.

    Returns:
        The new state.
    """
    previous_status = None
    for step, group in _calls(task, int(state.step), goal):
        if task.begin and step % len(task.batches) == 0:  # the first batch of a pass
            state = state._replace(carry=sharding.split(task.mesh, task.carry(task.batches.size)))
        state, status = _call(task, state, key, group)
        # One call behind, so that the host reads a status while the device computes the next step.
        if previous_status is not None and (not previous_status.finite or watch(step + len(group), previous_status)):
            break
        previous_status = status
    return state


def evaluate(
    loss_fn: LossFunction,
    params: Params,
    batches: Batches[Any],
    *,
    begin: Callable[[int], PyTree] | None = None,
    mesh: Mesh | None = None,
) -> dict[str, float]:
    """Return the means of the loss and of each metric over one pass, without dropout.

    Args:
        loss_fn: A loss function as for `fit`. It gets no key. The same function is compiled once.
        params: Parameters. They are copied to `mesh` if they are elsewhere.
        batches: Data to evaluate on.
        begin: A function `size -> carry` for the first batch, as for `fit`.
        mesh: Devices over which to split the batches. None means the mesh of the parameters, if they have one.

    Returns:
        The means by name, beginning with `loss`.

    Raises:
        TypeError: An argument has the wrong type, or `loss_fn` does not return an Outcome.
        ValueError: An Outcome does not have one number per example.

    Examples:
        >>> import numpy as np
        >>> from jlstm.data import Minibatches
        >>> from jlstm.train import Outcome, evaluate
        >>> evaluate(lambda params, x, key, carry: Outcome(x), {}, Minibatches(np.float32([1, 2, 6]), size=2))
        {'loss': 3.0}
    """
    check_measured(loss_fn, params, batches, begin, mesh)
    mesh = mesh or sharding.mesh_of(params)
    params = sharding.spread(mesh, params)
    carry = sharding.split(mesh, jax.tree.map(_strong, begin(batches.size))) if begin else None
    totals: dict[str, Any] = {}
    for batch in batches.epoch(0, 0, sharding.part(mesh, batches.size)):
        carry, sums = measure(loss_fn, params, carry, sharding.feed(mesh, batch))
        totals = {name: totals.get(name, 0) + value for name, value in sums.items()}
    return means(totals)


def means(sums: Mapping[str, Array]) -> dict[str, float]:
    """Return weighted sums divided by the sum of the weights, the loss first. They are NaN if every step was skipped."""
    weight = float(sums["weight"]) or math.nan
    # The key of the sort is False for "loss" and True for all others, which keep their order.
    return {name: float(sums[name]) / weight for name in sorted(sums, key="loss".__ne__) if name not in ("weight", "skipped")}


def _call(task: Task, state: State, key: Array, group: list[Batch]) -> tuple[State, StepStatus]:
    if len(group) == 1:
        return advance(task.rule, task.mesh, state, key, sharding.feed(task.mesh, group[0]))
    # (steps, size, …) after stacking: examples are along axis 1.
    batches = sharding.feed(task.mesh, jax.tree.map(lambda *leaves: np.stack(leaves), *group), axis=1)
    return advance_several(task.rule, task.mesh, state, key, batches)


def _calls(task: Task, step: int, goal: int) -> Iterator[tuple[int, list[Batch]]]:
    """Yield, for each call up to step `goal`, the number of steps before it and its batches."""
    part = sharding.part(task.mesh, task.batches.size)
    while step < goal:
        # A group lies within one pass, since the carry starts anew between passes, and does not go beyond the goal.
        epoch, index = divmod(step, len(task.batches))
        missing = min(goal - step, len(task.batches) - index)
        for group in _groups(islice(task.batches.epoch(epoch, index, part), missing), task.steps_per_call):
            yield step, group
            step, missing = step + len(group), missing - len(group)
        if missing:
            raise ValueError(f"epoch {epoch} of the batches has {missing} fewer than their length, {len(task.batches)}")


def _groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Group consecutive batches of equal shapes, `size` at a time.

    Incomplete groups are split into single batches, since a loop of another length would need another compilation.
    """
    group: list[Batch] = []
    for batch in batches:
        if group and _shapes(batch) != _shapes(group[0]):
            yield from ([member] for member in group)
            group = []
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    yield from ([member] for member in group)


def _shapes(batch: Batch) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(batch)]


def _strong(leaf: Any) -> Array:
    """Return an array without a weak type. A step returns strong types, so a weak input would cause a second compilation."""
    return jnp.asarray(leaf, jnp.result_type(leaf))
