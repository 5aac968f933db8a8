"""The training loop."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from jlstm import checks
from jlstm.cell import Params, PyTree
from jlstm.data import Batches
from jlstm.train import sharding
from jlstm.train.checkpoints import Checkpoints, Snapshot
from jlstm.train.history import History, Record, best, write
from jlstm.train.interruptions import interruptions
from jlstm.train.nonfinite import NonFiniteError
from jlstm.train.outcome import LossFunction
from jlstm.train.passes import Task, evaluate, initial, means, probe, train
from jlstm.train.progress import Progress
from jlstm.train.step import Pulse

LOG = logging.getLogger(__name__)


class Result(NamedTuple):
    """What `fit` returns.

    Attributes:
        params: the last parameters.
        history: the records.
        best: the parameters of the record with the smallest validation loss; None without validation data.
    """

    params: Params
    history: History
    best: Params | None


def fit(
    loss_fn: LossFunction,
    params: Params,
    optimizer: optax.GradientTransformation,
    batches: Batches[Any],
    *,
    epochs: int | None = None,
    steps: int | None = None,
    validation: Batches[Any] | None = None,
    key: Array | None = None,
    begin: Callable[[int], PyTree] | None = None,
    steps_per_call: int = 1,
    every: int | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    resume: bool = True,
    history: str | os.PathLike[str] | None = None,
    stop: Callable[[Sequence[Record]], bool] | None = None,
    callbacks: Sequence[Callable[[Record, Params], None]] = (),
    mesh: Mesh | None = None,
    nonfinite: Literal["stop", "skip"] = "stop",
    progress: bool = False,
) -> Result:
    """Minimise the mean of a loss over batches.

    A step depends on nothing but the state, `key` and its own number, so that a run that was killed and started again with the
    same arguments and `checkpoints` ends with the same bits as one that was not. Clip gradients and schedule the learning rate
    with optax (`optax.chain(optax.clip_by_global_norm(5), optax.sgd(schedule))`).

    Args:
        loss_fn: `(params, examples, key, carry) -> Outcome`, traced. `examples` are those of a `Batch`; `key` is None in
            validation, where there is no dropout; `carry` is what the batch before returned, or `begin`'s, or None. The same
            function with the same optimizer is compiled once.
        params: initial parameters; copied, not consumed.
        optimizer: of optax.
        batches: what to pass over.
        epochs: number of passes; or
        steps: number of steps.
        validation: measured at each record, without dropout and so without a key.
        key: of the dropout; step n has the key `jax.random.fold_in(key, n)`. None takes `jax.random.key(0)`.
        begin: `size -> carry`, what the first batch of each pass begins with.
        steps_per_call: steps that run as one compiled loop; more than one spares small models most of Python's time.
        every: steps between records; None makes one record an epoch. The last step always has one.
        checkpoints: a folder. A checkpoint is written at every record and on Ctrl-C or SIGTERM; the last two are kept. Where the
            last is damaged, a warning says so and training goes on from the one before.
        resume: whether to go on from the checkpoint that is there already, if there is one; False removes it once all arguments
            have been checked, and starts anew.
        history: a file to which the records are written as JSON Lines; what was in it before is replaced.
        stop: of the records so far; training ends when it returns true (`early_stopping` makes one).
        callbacks: called with each record and the parameters at that moment, whose memory the next step takes over: copy what is
            to be kept. After a kill a record whose checkpoint was not written comes again.
        mesh: devices over which to split the batches, as `jlstm.train.mesh` makes it; None is one device of one process.
        nonfinite: what to do with a step whose loss, gradient or change is NaN or infinite. "stop" raises, unless the optimizer
            deals with the gradient: makes a finite change of it and keeps its own state finite, as `optax.apply_if_finite` does.
            "skip" leaves the step out: parameters, optimizer and carry stay, and the next batch follows. Such steps count in
            neither means nor losses; their number since the last record is its `train["skipped"]`, and is logged as a warning.
        progress: whether to show a progress bar on a terminal.

    Raises:
        ImportError: the progress bar needs rich, which is not installed.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the checkpoint has been written.
        NonFiniteError: with "stop", a loss, a gradient or a change was NaN or infinite. The batch is in the folder
            `checkpoints`, if there is one, and the checkpoint is that of the last record before.
        OSError: a checkpoint or the history cannot be written or read; what was written before is still there.
        TypeError: `loss_fn` returns something else than an Outcome.
        ValueError: neither or both of `epochs` and `steps`, or a number below 1, or a checkpoint of another model, optimizer or
            kind of batches or another key, or an Outcome that has not one number an example.

    Examples:
        >>> import jax.numpy as jnp, numpy as np, optax
        >>> from jlstm.data import Minibatches
        >>> from jlstm.train import Outcome, fit
        >>> def loss_fn(params, examples, key, carry):
        ...     x, y = examples
        ...     return Outcome((params["slope"] * x - y) ** 2)
        >>> x = np.linspace(-1, 1, 10, dtype=np.float32)
        >>> result = fit(loss_fn, {"slope": jnp.zeros(())}, optax.sgd(0.1), Minibatches((x, 3 * x), size=5, seed=0), epochs=40)
        >>> round(float(result.params["slope"]), 2)
        3.0
    """
    _check(epochs=epochs, steps=steps, every=every, steps_per_call=steps_per_call)
    checks.one_of("nonfinite", nonfinite, ("stop", "skip"))
    total, every = epochs * len(batches) if epochs else steps or 0, every or len(batches)
    task = Task(loss_fn, optimizer, batches, begin, steps_per_call, mesh, nonfinite == "skip")
    with ExitStack() as stack:
        interruption = stack.enter_context(interruptions())  # before the first batch is asked for
        now = _start(task, params, key, validation)
        folder = Checkpoints(checkpoints, task.facts(now.key), resume=True) if checkpoints else None
        if folder and not resume:
            folder.clear()
        now = (folder.restore(now) if folder else None) or now
        _write(history, now.history)
        bar = stack.enter_context(Progress(progress and _is_first_process(), total, int(now.state.step), batches.size))

        def watch(step: int, pulse: Pulse) -> bool:
            bar.update(step, pulse.sums)
            return interruption.poll()

        while (step := int(now.state.step)) < total and not (stop and now.history and stop(now.history)):
            goal, started = min(total, (step // every + 1) * every), time.perf_counter()
            now = now._replace(state=train(task, now.state, now.key, goal, watch))
            if not now.state.finite:
                raise NonFiniteError(now.state, batches, folder.folder if folder else None)
            if int(now.state.step) == goal:
                seconds = time.perf_counter() - started
                now = _recorded(now, task, validation, seconds, batches.size * (goal - step) / seconds)
                _write(history, now.history)
                for callback in callbacks:
                    callback(now.history[-1], now.state.params)
            if folder:
                folder.save(now)
            if interruption.poll():
                kept = f"kept in {folder.folder}, where it can be resumed" if folder else "nothing is kept"
                raise KeyboardInterrupt(f"stopped after step {int(now.state.step)} of {total}; {kept}")
    return Result(now.state.params, now.history, now.best)


def _start(task: Task, params: Params, key: Array | None, validation: Batches[Any] | None) -> Snapshot:
    state = initial(task, params)
    best = None
    if validation is not None:
        probe(task, state.params, validation, key=None)
        best = jax.tree.map(jnp.copy, state.params)
    return Snapshot(state, sharding.replicate(task.mesh, jax.random.key(0) if key is None else key), best, [])


def _recorded(now: Snapshot, task: Task, validation: Batches[Any] | None, seconds: float, speed: float) -> Snapshot:
    """Add a record, begin new sums, and keep the parameters if they are the best so far."""
    step, params, sums = int(now.state.step), now.state.params, now.state.sums
    measured = {} if validation is None else evaluate(task.loss_fn, params, validation, begin=task.begin, mesh=task.mesh)
    trained = means(sums) | _learning_rate(now.state.moments) | _skipped(sums, step)
    history = [*now.history, Record(step, step / len(task.batches), trained, measured, seconds, speed)]
    is_best = measured and best([record.validation["loss"] for record in history]) == len(history) - 1
    return Snapshot(
        now.state._replace(sums=jax.tree.map(jnp.zeros_like, sums)),
        now.key,
        jax.tree.map(jnp.copy, params) if is_best else now.best,
        history,
    )


def _learning_rate(moments: PyTree) -> dict[str, float]:
    """The last step's, if `optax.inject_hyperparams` keeps it."""
    leaves = jax.tree_util.tree_leaves_with_path(moments)
    rates = [leaf for path, leaf in leaves if jax.tree_util.keystr(path).endswith(".hyperparams['learning_rate']")]
    return {"learning_rate": float(rates[0])} if rates else {}


def _skipped(sums: Mapping[str, Array], step: int) -> dict[str, float]:
    """How many steps were left out since the last record, if some were."""
    if not (count := float(sums["skipped"])):
        return {}
    LOG.warning("%d of the steps up to %d were left out: their loss, gradient or change was not finite", int(count), step)
    return {"skipped": count}


def _write(path: str | os.PathLike[str] | None, history: History) -> None:
    if path is not None and _is_first_process():
        write(path, history)


def _is_first_process() -> bool:
    return jax.process_index() == 0


def _check(epochs: int | None, steps: int | None, **others: int | None) -> None:
    if (epochs is None) == (steps is None):
        raise ValueError(f"give either epochs or steps, got epochs={epochs} and steps={steps}")
    for name, value in {"epochs": epochs, "steps": steps, **others}.items():
        if value is not None:
            checks.positive(name, value)
