"""What a run tells, keeps and refuses: records, the best parameters, early stopping, and what is not finite."""

import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jlstm.data import Batch, Minibatches
from jlstm.train import NonFiniteError, Outcome, Record, early_stopping, evaluate, fit, restore
from jlstm.train.history import read, write
from jlstm.train.outcome import mean
from training import SGD, assert_equal, batches, begin, init, loss_fn, weighted

run = partial(fit, loss_fn, init(), SGD, batches(), validation=batches(7))


def test_records_are_of_every_so_many_steps_and_of_the_last():
    """`every` counts over passes; a record tells its step and its share of an epoch; metrics are means since the one before."""
    result = run(steps=10, every=4)
    assert [(record.step, record.epoch) for record in result.history] == [(4, 4 / 6), (8, 8 / 6), (10, 10 / 6)]
    for record in result.history:
        assert record.train.keys() == {"loss", "grad_norm", "accuracy"}
        assert record.validation.keys() == {"loss", "accuracy"}
        assert 0 < record.seconds < 60
        assert record.examples_per_second > 0
    each = run(steps=4, every=1).history
    assert result.history[0].train["loss"] == pytest.approx(np.mean([record.train["loss"] for record in each]), rel=1e-6)


def test_an_epoch_has_one_record_without_every():
    """Without `every` there is a record at the end of each pass, and of the last step."""
    assert [record.epoch for record in run(steps=13).history] == [1, 2, 13 / 6]


def test_validation_is_evaluate_without_dropout():
    """What a record has of the validation data is what `evaluate` says of the parameters then: weighted means, no key."""
    seen = []
    result = run(epochs=2, callbacks=[lambda record, params: seen.append(evaluate(loss_fn, params, batches(7)))])
    assert seen == [record.validation for record in result.history]
    outcome = loss_fn(result.params, batches(7).examples, None, None)
    assert seen[-1]["loss"] == pytest.approx(float(outcome.losses.mean()), rel=1e-6)
    assert seen[-1]["accuracy"] == pytest.approx(float(outcome.metrics["accuracy"].mean()), rel=1e-6)


def test_evaluate_hands_the_carry_on():
    """With `begin`, batch after batch goes on from the one before, in the given order."""
    carry, means, data = begin(4), [], batches(7, seed=None)
    for batch in data.epoch(0):
        outcome = loss_fn(init(), batch.examples, None, carry)
        carry, real = outcome.carry, int(batch.weights.sum())
        means.append((float(outcome.losses[:real].mean()), real))
    assert evaluate(loss_fn, init(), data, begin=begin)["loss"] == pytest.approx(weighted(means), rel=1e-6)


def test_the_history_file_is_the_history(tmp_path):
    """JSON Lines, a record a line, replaced at each record; whatever was in the file before is gone."""
    path, lengths = tmp_path / "history.jsonl", []
    path.write_text("of an older run\n")
    result = run(epochs=3, history=path, callbacks=[lambda *_: lengths.append(len(path.read_text().splitlines()))])
    assert lengths == [1, 2, 3]
    assert [Record(**json.loads(line)) for line in path.read_text().splitlines()] == result.history == read(path)


def test_what_is_not_finite_is_null_in_the_history_file(tmp_path):
    """JSON has no NaN: it is written as null, and read as NaN."""
    write(tmp_path / "history.jsonl", [Record(1, 1.0, {"loss": 2.0}, {"loss": math.nan}, 1.0, math.inf)])
    text = (tmp_path / "history.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["validation"] == {"loss": None}
    assert math.isnan(read(tmp_path / "history.jsonl")[0].validation["loss"])


def test_a_history_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    """The folder of the history is missed before anything is trained."""
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing"):
        run(epochs=1, history=tmp_path / "missing" / "history.jsonl", callbacks=[pytest.fail])


def test_best_are_the_parameters_of_the_best_record():
    """`best` are those that the record with the smallest validation loss was made with, bit by bit."""
    held = []
    result = run(epochs=6, callbacks=[lambda record, params: held.append(jax.tree.map(np.array, params))])
    losses = [record.validation["loss"] for record in result.history]
    assert 0 < np.argmin(losses) < 5  # else the test would prove little
    assert_equal(jax.tree.map(np.asarray, result.best), held[np.argmin(losses)])
    assert fit(loss_fn, init(), SGD, batches(), epochs=1).best is None


def validated(losses):
    """A history of these validation losses."""
    return [Record(step, step, {"loss": -loss}, {"loss": loss}, 1.0, 1.0) for step, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "options", "stops"),
    [
        ([], {}, False),
        ([3, 2, 4, 2], {"patience": 2}, True),  # as good as before is no new best
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
    """Training stops once the last `patience` records are no better than the best before; NaN is never best."""
    assert early_stopping(**{"part": "validation"} | options)(validated(losses)) is stops


def test_early_stopping_stops_fit():
    """The run ends at the record after which `stop` says so."""
    stop = early_stopping(patience=2)
    result = run(epochs=50, stop=stop)
    assert len(result.history) < 50
    assert [stop(result.history[:n]) for n in range(1, len(result.history) + 1)] == [False] * (len(result.history) - 1) + [True]


def poisoned(step):
    """Batches whose batch of that step, counted from 1, has a NaN."""

    class Poisoned(Minibatches):
        def epoch(self, number, start=0, part=(0, 1)):
            for index, (examples, weights) in enumerate(super().epoch(number, start, part), start):
                if number * len(self) + index + 1 == step:
                    examples = (examples[0] * np.float32("nan"), examples[1])
                yield type(next(super().epoch(0)))(examples, weights)

    return Poisoned(batches().examples, 4, seed=0)


@pytest.mark.parametrize("steps_per_call", [1, 3])
@pytest.mark.parametrize("step", [1, 5, 6, 7, 12])
def test_nan_stops_the_run_where_it_is(step, steps_per_call, tmp_path):
    """The error has the step, the batch, in a file too, and the parameters before it; the checkpoint is the last good one."""
    data, folder = poisoned(step), tmp_path / "checkpoints"
    with pytest.raises(NonFiniteError, match=rf"step {step} is not finite.*batch_of_step_{step}\.npz: look") as caught:
        fit(loss_fn, init(), SGD, data, steps=12, every=2, steps_per_call=steps_per_call, checkpoints=folder)
    assert caught.value.step == step - 1
    epoch, index = divmod(step - 1, 6)
    (xs, labels), weights = batch = next(data.epoch(epoch, index))
    assert_equal(caught.value.batch, batch)
    with np.load(folder / f"batch_of_step_{step}.npz") as saved:
        assert_equal(dict(saved), {"examples.0": xs, "examples.1": labels, "weights": weights})
    before = (step - 1) // 2 * 2
    clean = partial(fit, loss_fn, init(), SGD, batches(), every=2, steps_per_call=steps_per_call)
    np.testing.assert_allclose(  # as the steps may be grouped otherwise
        caught.value.params["kernel"], clean(steps=step - 1).params["kernel"] if step > 1 else init()["kernel"], rtol=0, atol=1e-6
    )
    if before:
        assert_equal(restore(folder, init()), clean(steps=before).params)
        assert_equal(clean(steps=12, checkpoints=folder).params, clean(steps=12).params)


def test_nan_without_a_folder_is_in_the_error_alone():
    """Without checkpoints the batch is in the error's attribute."""
    with pytest.raises(NonFiniteError, match="its batch is in this error's attribute batch: look"):
        fit(loss_fn, init(), SGD, poisoned(2), epochs=1)


def test_a_change_that_is_not_finite_stops_too():
    """An optimizer that divides by nothing is stopped before it touches the parameters."""
    optimizer = optax.stateless(lambda updates, params: jax.tree.map(lambda leaf: leaf / (leaf - leaf), updates))
    with pytest.raises(NonFiniteError, match="the change of step 1 is not finite") as caught:
        fit(loss_fn, init(), optimizer, batches(), epochs=1)
    assert_equal(caught.value.params, init())


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
    """Neither or both of epochs and steps, numbers below one, and figures that nobody measures are refused."""
    with pytest.raises(ValueError, match=f"^{sentence}"):
        run(**options)


def test_patience_is_at_least_one():
    """No patience at all would stop every run."""
    with pytest.raises(ValueError, match="patience must be a whole number of at least 1, got 0"):
        early_stopping(patience=0)


def test_the_key_is_part_of_the_run():
    """The same key gives the same bits, another one another dropout; none is key 0."""
    same, other = (run(epochs=1, key=jax.random.key(seed)).params for seed in (0, 1))
    assert_equal(run(epochs=1).params, same)
    assert not jnp.allclose(same["kernel"], other["kernel"])


def test_metrics_of_any_kind_are_means():
    """Booleans, whole numbers and floats are averaged over the real examples alone."""
    loss = lambda params, x, key, carry: Outcome(params["w"] * x, {"large": x > 2, "whole": x.astype("int32"), "double": 2 * x})
    means = evaluate(loss, {"w": jnp.ones(())}, Minibatches(np.arange(5, dtype=np.float32), 2))
    assert means == {"loss": 2, "large": pytest.approx(0.4), "whole": 2, "double": 4}


def several_poisoned(steps, count=22):
    """Batches of which those of some steps, counted from 1, have a NaN."""

    class Poisoned(Minibatches):
        def epoch(self, number, start=0, part=(0, 1)):
            for index, (examples, weights) in enumerate(super().epoch(number, start, part), start):
                if number * len(self) + index + 1 in steps:
                    examples = (examples[0] * np.float32("nan"), examples[1])
                yield Batch(examples, weights)

    return Poisoned(batches(count).examples, 4, seed=0)


def left_out_by_hand(optimizer, steps, poisoned_steps, begin=None):
    """A plain loop that takes no step for some batches, but counts them."""
    params, carry, losses = init(), None, []
    moments, data = optimizer.init(params), batches()
    gradient = jax.jit(
        jax.value_and_grad(
            lambda p, examples, w, key, carry: (mean((o := loss_fn(p, examples, key, carry)).losses, w), o), has_aux=True
        )
    )
    for step in range(steps):
        epoch, index = divmod(step, len(data))
        carry = begin(4) if begin and index == 0 else carry
        if step + 1 in poisoned_steps:
            continue
        examples, weights = next(data.epoch(epoch, index))
        (value, outcome), gradients = gradient(params, examples, weights, jax.random.fold_in(KEY, step), carry)
        changes, moments = optimizer.update(gradients, moments, params)
        params, carry = optax.apply_updates(params, changes), outcome.carry
        losses.append((float(value), weights.sum()))
    return params, losses


KEY = jax.random.key(3)
BAD = {2, 3, 6, 9}
MODES = {
    "skip": (SGD, {"nonfinite": "skip"}),
    "skip, several in a call": (SGD, {"nonfinite": "skip", "steps_per_call": 3}),
    "an optimizer that deals with it": (optax.apply_if_finite(SGD, 5), {}),
    "both": (optax.apply_if_finite(SGD, 1), {"nonfinite": "skip"}),
}


@pytest.mark.loose
@pytest.mark.parametrize("with_carry", [None, begin], ids=["no carry", "carry"])
@pytest.mark.parametrize("name", MODES)
def test_steps_that_are_not_finite_are_left_out(name, with_carry, caplog):
    """All that is trained is what a plain loop without those batches gives; they are counted, logged and in no mean."""
    optimizer, options = MODES[name]
    result = fit(loss_fn, init(), optimizer, several_poisoned(BAD), steps=12, every=6, key=KEY, begin=with_carry, **options)
    params, losses = left_out_by_hand(SGD, 12, BAD, with_carry)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=2e-6), result.params, params)
    assert [record.train["skipped"] for record in result.history] == [3, 1]
    for record, part in zip(result.history, (losses[:3], losses[3:]), strict=True):
        values, weights = np.array(part).T
        assert record.train["loss"] == pytest.approx((values * weights).sum() / weights.sum(), abs=2e-6)
    assert caplog.messages[0].startswith("3 of the steps up to 6 were left out")


@pytest.mark.loose
def test_an_optimizer_that_has_had_enough_stops_the_run():
    """After two bad steps in a row `apply_if_finite` lets the third through; a clean run has no count."""
    with pytest.raises(NonFiniteError, match="of step 4 is not finite"):
        fit(loss_fn, init(), optax.apply_if_finite(SGD, 2), several_poisoned({2, 3, 4}), steps=6)
    assert "skipped" not in fit(loss_fn, init(), SGD, batches(), steps=6, nonfinite="skip").history[0].train


def test_a_loss_that_is_not_finite_without_its_gradient_stops():
    """Nobody has dealt with that."""
    loss = lambda params, x, key, carry: Outcome(params["w"] * x + jnp.where(x > 2, jnp.inf, 0))
    with pytest.raises(NonFiniteError, match=r"of step 4 is not finite.*or go on with nonfinite='skip'"):
        fit(loss, {"w": jnp.ones(())}, SGD, Minibatches(np.arange(4, dtype=np.float32), 1), epochs=1)


def test_a_run_of_nothing_but_nan_ends_with_what_it_began():
    """Means of nothing are NaN."""
    result = fit(loss_fn, init(), SGD, several_poisoned(range(1, 7)), steps=6, nonfinite="skip")
    assert_equal(result.params, init())
    assert np.isnan(result.history[0].train["loss"])
    assert result.history[0].train["skipped"] == 6


@pytest.mark.parametrize("stopped", [2, 4, 7])
def test_a_run_that_leaves_steps_out_resumes_to_the_same_bits(stopped, tmp_path):
    """Parameters and records, the counts too; also where the run before was stopped by what is now left out."""
    run = partial(fit, loss_fn, init(), SGD, several_poisoned(BAD - {2}), every=2, key=KEY)
    whole = run(steps=12, nonfinite="skip")
    if stopped == 4:
        with pytest.raises(NonFiniteError, match="step 3"):
            run(steps=12, checkpoints=tmp_path)
    else:
        run(steps=stopped, nonfinite="skip", checkpoints=tmp_path)
    resumed = run(steps=12, nonfinite="skip", checkpoints=tmp_path)
    assert_equal(resumed.params, whole.params)
    if stopped != 7:  # which made a record of its own
        assert [record.train for record in resumed.history] == [record.train for record in whole.history]
