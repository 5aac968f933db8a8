"""Records, best parameters, early stopping and wrong arguments of a training run."""

import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm.data import Minibatches
from jlstm.train import Outcome, Record, early_stopping, evaluate, fit
from jlstm.train.history import read, write
from problems import assert_equal
from training import SGD, batches, begin, init, loss_fn, weighted

run = partial(fit, loss_fn, init(), SGD, batches(), validation=batches(7))


def test_records_are_of_every_so_many_steps_and_of_the_last():
    """`every` counts across passes. Metrics are means since the previous record."""
    result = run(steps=10, every=4)
    assert [(record.step, record.epoch) for record in result.history] == [(4, 4 / 6), (8, 8 / 6), (10, 10 / 6)]
    for record in result.history:
        assert record.train.keys() == {"loss", "grad_norm", "accuracy"}
        assert record.validation.keys() == {"loss", "accuracy"}
        assert 0 < record.seconds < 60
        assert record.examples_per_second > 0
    step_records = run(steps=4, every=1).history
    assert result.history[0].train["loss"] == pytest.approx(np.mean([record.train["loss"] for record in step_records]), rel=1e-6)


def test_an_epoch_has_one_record_without_every():
    """Without `every` there is a record at the end of each pass, and of the last step."""
    assert [record.epoch for record in run(steps=13).history] == [1, 2, 13 / 6]


def test_validation_is_evaluate_without_dropout():
    """A record's validation metrics are those of `evaluate`: weighted means, without a key."""
    evaluations = []
    result = run(epochs=2, callbacks=[lambda record, params: evaluations.append(evaluate(loss_fn, params, batches(7)))])
    assert evaluations == [record.validation for record in result.history]
    outcome = loss_fn(result.params, batches(7).examples, None, None)
    assert evaluations[-1]["loss"] == pytest.approx(float(outcome.losses.mean()), rel=1e-6)
    assert evaluations[-1]["accuracy"] == pytest.approx(float(outcome.metrics["accuracy"].mean()), rel=1e-6)


def test_evaluate_hands_the_carry_on():
    """With `begin` each batch starts from the carry of the previous one, in order."""
    carry, means, data = begin(4), [], batches(7, seed=None)
    for batch in data.epoch(0):
        outcome = loss_fn(init(), batch.examples, None, carry)
        carry, real = outcome.carry, int(batch.weights.sum())
        means.append((float(outcome.losses[:real].mean()), real))
    assert evaluate(loss_fn, init(), data, begin=begin)["loss"] == pytest.approx(weighted(means), rel=1e-6)


def test_the_history_file_is_the_history(tmp_path):
    """It is JSON Lines with one record a line, rewritten at each record. Old content is replaced."""
    path, lengths = tmp_path / "history.jsonl", []
    path.write_text("of an older run\n")
    result = run(epochs=3, history=path, callbacks=[lambda *_: lengths.append(len(path.read_text().splitlines()))])
    assert lengths == [1, 2, 3]
    assert [Record(**json.loads(line)) for line in path.read_text().splitlines()] == result.history == read(path)


def test_what_is_not_finite_is_null_in_the_history_file(tmp_path):
    """JSON has no NaN: it is written as null and read as NaN."""
    write(tmp_path / "history.jsonl", [Record(1, 1.0, {"loss": 2.0}, {"loss": math.nan}, 1.0, math.inf)])
    text = (tmp_path / "history.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["validation"] == {"loss": None}
    assert math.isnan(read(tmp_path / "history.jsonl")[0].validation["loss"])


def test_a_history_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    """A missing folder of the history is noticed before training."""
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing"):
        run(epochs=1, history=tmp_path / "missing" / "history.jsonl", callbacks=[pytest.fail])


def test_best_are_the_parameters_of_the_best_record():
    """`best` has the bits of the parameters at the smallest validation loss."""
    held = []
    result = run(epochs=6, callbacks=[lambda record, params: held.append(jax.tree.map(np.array, params))])
    losses = [record.validation["loss"] for record in result.history]
    assert 0 < np.argmin(losses) < 5  # otherwise the test would prove little
    assert_equal(jax.tree.map(np.asarray, result.best), held[np.argmin(losses)])
    assert fit(loss_fn, init(), SGD, batches(), epochs=1).best is None


def validated(losses):
    """Return a history with these validation losses."""
    return [Record(step, step, {"loss": -loss}, {"loss": loss}, 1.0, 1.0) for step, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "options", "stops"),
    [
        ([], {}, False),
        ([3, 2, 4, 2], {"patience": 2}, True),  # an equal loss is no new best
        ([3, 2, 4, 1], {"patience": 2}, False),
        ([3, 2, 4], {"patience": 2}, False),
        ([1, 2, 3], {"patience": 2, "mode": "max"}, False),
        ([1, 2, 3], {"patience": 2, "part": "train"}, False),
        ([3, 2, 1], {"patience": 2, "part": "train"}, True),
        ([math.nan, 2, 1], {"patience": 2}, False),
        ([math.nan, 2, math.nan, math.nan], {"patience": 2}, True),
    ],
)
def test_early_stopping_waits_for_a_new_best(losses, options, stops):
    """Training stops after `patience` records that are no better than the best. NaN is never best."""
    assert early_stopping(**{"part": "validation"} | options)(validated(losses)) is stops


def test_early_stopping_stops_fit():
    """The run ends at the record after which `stop` says so."""
    stop = early_stopping(patience=2)
    result = run(epochs=50, stop=stop)
    assert len(result.history) < 50
    assert [stop(result.history[:n]) for n in range(1, len(result.history) + 1)] == [False] * (len(result.history) - 1) + [True]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "give either epochs or steps, got epochs=None and steps=None"),
        ({"steps": 2, "nonfinite": "ignore"}, "nonfinite must be one of 'stop', 'skip', got 'ignore'"),
        ({"epochs": 1, "steps": 1}, "give either epochs or steps, got epochs=1 and steps=1"),
        ({"epochs": 1.5}, "epochs must be a whole number of at least 1, got 1.5"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"steps": -1}, "steps must be a whole number of at least 1, got -1"),
        ({"steps": 1, "every": 0}, "every must be a whole number of at least 1, got 0"),
        ({"steps": 1, "steps_per_call": 0}, "steps_per_call must be a whole number of at least 1, got 0"),
        (
            {"steps": 2, "every": 1, "validation": None, "stop": early_stopping()},
            "no validation loss was measured: give fit validation data",
        ),
        (
            {"steps": 2, "every": 1, "stop": early_stopping("train", "perplexity")},
            "no train perplexity was measured: name one of the metrics",
        ),
    ],
)
def test_wrong_numbers_get_one_sentence(options, sentence):
    """Neither or both of epochs and steps, numbers below one, and unknown metrics are refused."""
    with pytest.raises(ValueError, match=f"^{sentence}"):
        run(**options)


def test_patience_is_at_least_one():
    """A patience of zero would stop every run."""
    with pytest.raises(ValueError, match="patience must be a whole number of at least 1, got 0"):
        early_stopping(patience=0)


def test_the_key_is_part_of_the_run():
    """The same key gives the same bits, another key other dropout. None means key 0."""
    same, different = (run(epochs=1, key=jax.random.key(seed)).params for seed in (0, 1))
    assert_equal(run(epochs=1).params, same)
    assert not jnp.allclose(same["kernel"], different["kernel"])


def test_metrics_of_any_kind_are_means():
    """Booleans, whole numbers and floats are averaged over the real examples alone."""
    loss = lambda params, x, key, carry: Outcome(params["w"] * x, {"large": x > 2, "whole": x.astype("int32"), "double": 2 * x})
    means = evaluate(loss, {"w": jnp.ones(())}, Minibatches(np.arange(5, dtype=np.float32), 2))
    assert means == {"loss": 2, "large": pytest.approx(0.4), "whole": 2, "double": 4}
