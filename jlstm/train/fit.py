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

from jlstm._src import checks
from jlstm.cell import Params, PyTree
from jlstm.data import Batches
from jlstm.train import arguments, sharding
from jlstm.train.checkpoints import Checkpoints, Snapshot
from jlstm.train.history import History, Record, best, write
from jlstm.train.interruptions import interruptions
from jlstm.train.nonfinite import NonFiniteError
from jlstm.train.outcome import LossFunction
from jlstm.train.passes import Task, evaluate, initial, means, probe, train
from jlstm.train.progress import Progress
from jlstm.train.step import StepStatus

LOG = logging.getLogger(__name__)


class Result(NamedTuple):
    """The result of `fit`.

    Attributes:
        params: Parameters after the last step.
        history: Records in the order of their steps.
        best: Parameters at the record with the smallest validation loss, or None without validation data.
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
    evaluation_params: Callable[[PyTree, Params], Params] | None = None,
    progress: bool = False,
) -> Result:
    """Minimize the mean of a loss over batches.

    A step depends only on the state, on `key` and on its number. A run that is killed and started again with the same arguments
    and `checkpoints` therefore ends with the same bits as an uninterrupted run. Use optax to clip gradients and to schedule the
    learning rate: `optax.chain(optax.clip_by_global_norm(5), optax.sgd(schedule))`.

    Args:
        loss_fn: A traceable function `(params, examples, key, carry) -> Outcome`. `examples` is the field of a `Batch`. `key` is
            None in validation, which disables dropout. `carry` is the carry of the previous batch's outcome, at the start of a
            pass the result of `begin`, or None. One pair of function and optimizer is compiled once.
        params: Initial parameters. They are copied, not donated.
        optimizer: An optax transformation.
        batches: Training data.
        epochs: Number of passes. Give either `epochs` or `steps`.
        steps: Number of steps.
        validation: Data to evaluate at each record, without dropout.
        key: Random key for dropout. Step n uses `jax.random.fold_in(key, n)`. None means `jax.random.key(0)`.
        begin: A function `size -> carry` that returns the carry for the first batch of each pass.
        steps_per_call: Steps per compiled call. Values above one save most of the Python overhead of small models.
        every: Steps between records. None makes one record per epoch. The last step always has a record.
        checkpoints: Folder for checkpoints. One is written at every record and on Ctrl-C or SIGTERM, and the last two are kept.
            If the last one is damaged, `fit` warns and resumes from the one before.
        resume: Whether to resume from an existing checkpoint. False removes it after all arguments have been checked.
        history: File for the records, as JSON Lines. Its previous content is replaced.
        stop: A function of the records so far. Training ends when it returns true; see `early_stopping`.
        callbacks: Functions `(record, params) -> None`, called at each record. The next step reuses the memory of `params`, so
            copy what you keep. If a run is killed before it writes the checkpoint of a record, resuming repeats the record.
        mesh: Devices over which to split the batches, from `jlstm.train.mesh`. None means one device of one process.
        nonfinite: What to do if the loss, the gradient or the update of a step is NaN or infinite. "stop" raises, unless the
            optimizer turns the gradient into a finite update and keeps its own state finite, as `optax.apply_if_finite` does.
            "skip" keeps parameters, optimizer state and carry, and continues with the next batch. Such steps do not enter the
            means. Their number since the last record is `record.train["skipped"]`, and a warning is logged.
        evaluation_params: A function `(opt_state, params) -> params` that returns the parameters to validate and to keep as the
            best, such as `averaged_params` or `optax.contrib.schedule_free_eval_params`. None takes those of the last step.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        The last parameters, the records, and the best parameters if there is validation data.

    Raises:
        ImportError: The progress bar needs rich, which is not installed.
        KeyboardInterrupt: Ctrl-C or SIGTERM arrived. The checkpoint has been written.
        NonFiniteError: With "stop", a loss, a gradient or an update was NaN or infinite. If `checkpoints` is set, the batch is
            saved in that folder. The last checkpoint is the one of the last record.
        OSError: A checkpoint or the history cannot be written or read. Earlier files remain.
        TypeError: An argument has the wrong type, or `loss_fn` does not return an Outcome.
        ValueError: Both or neither of `epochs` and `steps` are set, a number is below 1, a checkpoint belongs to another model,
            optimizer, key or kind of batches, or an Outcome does not have one number per example.

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
    arguments.check_measured(loss_fn, params, batches, begin, mesh)
    paths, flags = {"checkpoints": checkpoints, "history": history}, {"resume": resume, "progress": progress}
    arguments.check_fit(params, optimizer, validation, key, nonfinite, paths=paths, flags=flags)
    arguments.check_functions(stop, callbacks, evaluation_params)
    arguments.check_numbers(epochs, steps, every=every, steps_per_call=checks.positive("steps_per_call", steps_per_call))
    total, every = epochs * len(batches) if epochs else steps or 0, every or len(batches)  # one record per pass by default
    task = Task(loss_fn, optimizer, batches, begin, steps_per_call, mesh, nonfinite == "skip")
    with ExitStack() as stack:
        interruption = stack.enter_context(interruptions())  # first: signals during `_start` are held back too
        # A complete snapshot before the first step. It also says which shapes and shardings a checkpoint must have.
        snapshot = _start(task, params, key, validation)
        folder = Checkpoints(checkpoints, task.facts(snapshot.key), resume=True) if checkpoints is not None else None
        if folder and not resume:
            folder.clear()
        snapshot = (folder.restore(snapshot) if folder else None) or snapshot
        _write(history, snapshot.history)
        bar = stack.enter_context(Progress(progress and _is_first_process(), total, int(snapshot.state.step), batches.size))

        def watch(step: int, status: StepStatus) -> bool:
            bar.update(step, status.sums)
            return interruption.poll()

        while (step := int(snapshot.state.step)) < total and not (stop and snapshot.history and stop(snapshot.history)):
            # The next multiple of `every`: a resumed run then has its records at the same steps.
            goal, started = min(total, (step // every + 1) * every), time.perf_counter()
            snapshot = snapshot._replace(state=train(task, snapshot.state, snapshot.key, goal, watch))
            if not snapshot.state.finite:
                raise NonFiniteError(snapshot.state, batches, folder.folder if folder else None)
            # Interrupted before the goal, there is no record: the sums stay, so that the resumed run's record has the same means.
            if int(snapshot.state.step) == goal:
                snapshot = _recorded(snapshot, task, validation, evaluation_params, goal - step, time.perf_counter() - started)
                _report(snapshot, history, callbacks)
            if folder:
                folder.save(snapshot)
            if interruption.poll():
                raise _stopped(snapshot, total, folder)
    return Result(snapshot.state.params, snapshot.history, snapshot.best)


def _start(task: Task, params: Params, key: Array | None, validation: Batches[Any] | None) -> Snapshot:
    state = initial(task, params)
    best = None
    if validation is not None:
        probe(task, state.params, validation, key=None)  # `initial` has done the same for the training data
        best = jax.tree.map(jnp.copy, state.params)
    return Snapshot(state, sharding.replicate(task.mesh, jax.random.key(0) if key is None else key), best, [])


def _recorded(
    snapshot: Snapshot,
    task: Task,
    validation: Batches[Any] | None,
    evaluation_params: Callable[[PyTree, Params], Params] | None,
    new_steps: int,
    seconds: float,
) -> Snapshot:
    """Append a record, reset the sums, and copy the evaluated parameters if their validation loss is the smallest so far."""
    state = snapshot.state
    step, sums = int(state.step), state.sums
    params = state.params if evaluation_params is None else evaluation_params(state.opt_state, state.params)
    validation_means = {} if validation is None else evaluate(task.loss_fn, params, validation, begin=task.begin, mesh=task.mesh)
    train_means = means(sums) | _learning_rate(state.opt_state) | _skipped(sums, step)
    record = Record(
        step, step / len(task.batches), train_means, validation_means, seconds, task.batches.size * new_steps / seconds
    )
    history = [*snapshot.history, record]
    is_best = validation_means and best([record.validation["loss"] for record in history]) == len(history) - 1
    return Snapshot(
        state._replace(sums=jax.tree.map(jnp.zeros_like, sums)),
        snapshot.key,
        jax.tree.map(jnp.copy, params) if is_best else snapshot.best,  # a copy, since the next step donates the parameters
        history,
    )


def _report(
    snapshot: Snapshot, path: str | os.PathLike[str] | None, callbacks: Sequence[Callable[[Record, Params], None]]
) -> None:
    """Write the records to the file of the history, and pass the last one to the callbacks."""
    _write(path, snapshot.history)
    for callback in callbacks:
        callback(snapshot.history[-1], snapshot.state.params)


def _stopped(snapshot: Snapshot, total: int, folder: Checkpoints | None) -> KeyboardInterrupt:
    """Return the error of a run that was interrupted: it says how far the run is and whether it can be resumed."""
    consequence = f"kept in {folder.folder}, where it can be resumed" if folder else "nothing is kept"
    return KeyboardInterrupt(f"stopped after step {int(snapshot.state.step)} of {total}; {consequence}")


def _learning_rate(opt_state: PyTree) -> dict[str, float]:
    """Return the learning rate of the last step if `optax.inject_hyperparams` stores it."""
    leaves = jax.tree_util.tree_leaves_with_path(opt_state)
    rates = [leaf for path, leaf in leaves if jax.tree_util.keystr(path).endswith(".hyperparams['learning_rate']")]
    return {"learning_rate": float(rates[0])} if rates else {}


def _skipped(sums: Mapping[str, Array], step: int) -> dict[str, float]:
    """Return the number of steps skipped since the last record, if any, and log a warning."""
    if not (count := float(sums["skipped"])):
        return {}
    LOG.warning("%d of the steps up to %d were left out: their loss, gradient or update was not finite", int(count), step)
    return {"skipped": count}


def _write(path: str | os.PathLike[str] | None, history: History) -> None:
    if path is not None and _is_first_process():
        write(path, history)


def _is_first_process() -> bool:
    return jax.process_index() == 0
