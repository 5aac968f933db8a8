"""Our side: the example itself, timed."""

from typing import Any

import jax
import numpy as np

from benchmarks.systems import example
from benchmarks.systems.problem import FIRST, Problem, peak_bytes
from jlstm import train
from jlstm.data import Batches, Minibatches


def run(problem: Problem) -> dict[str, Any]:
    """Train and measure as the example does; return the losses of the first steps, times, figure and memory.

    The first steps run twice: first to compile them and to keep their losses, then in the example with the clock running.
    """
    options_fit, result = example.shared().fit, dict[str, Any]()

    def fit(options: Any, loss_fn: Any, params: Any, optimizer: Any, batches: Batches[Any], **more: Any) -> train.Result:
        if "validation" in more:
            more["validation"] = example.First(more["validation"], problem.test_batches)
        names = ("begin", "key", "steps_per_call")
        always = {"key": jax.random.key(options.seed), "mesh": options.mesh()}
        alike = always | {name: more[name] for name in names if name in more}
        first = train.fit(loss_fn, params, optimizer, batches, **alike, steps=FIRST, every=1).history
        warm_up(loss_fn, params, optimizer, batches, alike)
        trained = options_fit(options, loss_fn, params, optimizer, batches, **more)
        result.update(
            first_losses=[record.train["loss"] for record in first],
            first_step_seconds=first[0].seconds,
            losses=[record.train["loss"] for record in trained.history],
            seconds=sum(record.seconds for record in trained.history),
            seconds_of_each=[record.seconds for record in trained.history],
            steps=trained.history[-1].step,
            steps_an_epoch=len(batches),
            steps_per_call=more.get("steps_per_call", 1),
        )
        return trained._replace(best=trained.params)  # both sides are measured with their last weights

    def evaluate(loss_fn: Any, params: Any, batches: Batches[Any], **more: Any) -> dict[str, float]:
        measured = train_evaluate(loss_fn, params, example.First(batches, problem.test_batches), **more)
        result.update(figure=figure(measured), test_loss=measured["loss"], peak_bytes=peak_bytes())
        return measured

    train_evaluate = train.evaluate
    example.run(problem, fit, evaluate)
    return result


def warm_up(loss_fn: Any, params: Any, optimizer: Any, batches: Batches[Any], alike: dict[str, Any]) -> None:
    """Compile a step for each width of the batches, and the call of several steps."""
    several = alike.get("steps_per_call", 1)
    widths = {tuple(leaf.shape for leaf in jax.tree.leaves(batch)): batch for batch in batches.epoch(0)}
    for count in {several, len(batches) % several} - {0}:
        for batch in widths.values():
            repeated = jax.tree.map(lambda leaf, count=count: np.concatenate([leaf] * count), batch.examples)
            train.fit(loss_fn, params, optimizer, Minibatches(repeated, batches.size), **alike, steps=count)


def figure(measured: dict[str, float]) -> float:
    """Return the accuracy, or the perplexity of a language model."""
    return measured["accuracy"] if "accuracy" in measured else float(np.exp(measured["loss"] / measured["tokens"]))
