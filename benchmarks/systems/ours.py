"""Our side: run the example, and time its training."""

from typing import Any

import jax
import numpy as np

from benchmarks.machine import peak_bytes
from benchmarks.systems import example
from benchmarks.systems.problem import FIRST, Problem, Result
from jlstm import train
from jlstm.data import Batches, Minibatches


def run(problem: Problem) -> Result:
    """Train and test as the example does, and measure.

    The first steps run twice: first to compile them and to keep their losses, then in the example with the clock running.
    """
    options_fit, measurements = example.shared_options().fit, dict[str, Any]()

    def fit(options: Any, loss_fn: Any, params: Any, optimizer: Any, batches: Batches[Any], **kwargs: Any) -> train.Result:
        if "validation" in kwargs:
            kwargs["validation"] = example.FirstBatches(kwargs["validation"], problem.test_batches)
        # The options that decide how the step is compiled. Only with the same ones is the timed run already compiled.
        defaults = {"key": jax.random.key(options.seed), "mesh": options.mesh()}
        step_options = defaults | {name: kwargs[name] for name in ("begin", "key", "steps_per_call") if name in kwargs}
        first_records = train.fit(loss_fn, params, optimizer, batches, **step_options, steps=FIRST, every=1).history
        warm_up(loss_fn, params, optimizer, batches, step_options)
        trained = options_fit(options, loss_fn, params, optimizer, batches, **kwargs)
        measurements.update(
            first_losses=[record.train["loss"] for record in first_records],
            first_step_seconds=first_records[0].seconds,
            losses=[record.train["loss"] for record in trained.history],
            seconds=sum(record.seconds for record in trained.history),
            seconds_of_each=[record.seconds for record in trained.history],
            steps=trained.history[-1].step,
            steps_an_epoch=len(batches),
            steps_per_call=kwargs.get("steps_per_call", 1),
        )
        return trained._replace(best=trained.params)  # both sides are measured with their last weights

    def evaluate(loss_fn: Any, params: Any, batches: Batches[Any], **kwargs: Any) -> dict[str, float]:
        means = train_evaluate(loss_fn, params, example.FirstBatches(batches, problem.test_batches), **kwargs)
        measurements.update(figure=figure(means), test_loss=means["loss"], peak_bytes=peak_bytes())
        return means

    train_evaluate = train.evaluate
    example.run(problem, fit, evaluate)
    return Result(**measurements)


def warm_up(loss_fn: Any, params: Any, optimizer: Any, batches: Batches[Any], step_options: dict[str, Any]) -> None:
    """Compile the training step for each width of the batches, and the loop over `steps_per_call` steps."""
    steps_per_call = step_options.get("steps_per_call", 1)
    widths = {tuple(leaf.shape for leaf in jax.tree.leaves(batch)): batch for batch in batches.epoch(0)}
    # The last call of an epoch has fewer steps, which is another compiled loop.
    for count in {steps_per_call, len(batches) % steps_per_call} - {0}:
        for batch in widths.values():
            repeated = jax.tree.map(lambda leaf, count=count: np.concatenate([leaf] * count), batch.examples)
            train.fit(loss_fn, params, optimizer, Minibatches(repeated, batches.size), **step_options, steps=count)


def figure(means: dict[str, float]) -> float:
    """Return the accuracy, or the perplexity of a language model."""
    return means["accuracy"] if "accuracy" in means else float(np.exp(means["loss"] / means["tokens"]))
