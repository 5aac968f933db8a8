"""A training step equals a hand-written one, is compiled once, and leaves the caller's arrays alone."""

from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jlstm import LSTM
from jlstm.data import Batch, Minibatches
from jlstm.train import Outcome, fit
from jlstm.train.outcome import mean
from jlstm.train.step import advance, advance_several, measure
from problems import assert_equal
from training import SGD, batches, begin, by_hand, init, loss_fn, weighted

KEY = jax.random.key(3)
ROUNDING = 2e-6  # float32, over two passes


def assert_close(got, expected, atol=ROUNDING):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=atol), got, expected)


def classifier(layer):
    """Return an LSTM with dropout under a logistic regression, its parameters and its first carry."""

    def loss_fn(params, examples, key, carry):
        last, ys = layer.apply(params["lstm"], jnp.expand_dims(examples[0], 2), carry, key=key)
        logits = ys[:, -1] @ params["output"]
        losses = optax.losses.sigmoid_binary_cross_entropy(logits, examples[1])
        return Outcome(losses, {"accuracy": (logits > 0) == (examples[1] > 0.5)}, last)

    params = {"lstm": layer.init(KEY, features=1), "output": jnp.ones(5)}
    return loss_fn, params, lambda size: layer.initial_carry(params["lstm"], (size,))


@pytest.mark.table(quick=2)
@pytest.mark.newest_jax
@pytest.mark.loose
@pytest.mark.parametrize(
    ("model", "optimizer", "steps_per_call"),
    [
        ((loss_fn, init(), None), optax.sgd(0.5, momentum=0.9), 1),
        ((loss_fn, init(), begin), optax.adam(0.01), 3),
        (classifier(LSTM(5, dropout=0.2)), optax.adam(0.01), 6),
    ],
    ids=["no carry", "carry", "LSTM"],
)
def test_fit_equals_a_loop_by_hand(model, optimizer, steps_per_call):
    """Parameters, loss and gradient norm after two passes equal a plain loop over the real examples."""
    loss, start, begin = model
    params, losses, norms = by_hand(loss, start, optimizer, batches(), 12, KEY, begin)
    result = fit(loss, start, optimizer, batches(), epochs=2, key=KEY, begin=begin, steps_per_call=steps_per_call)
    assert_close(result.params, params, atol=2e-5)  # adam divides small numbers by small numbers
    for record, part in zip(result.history, (slice(0, 6), slice(6, 12)), strict=True):
        assert record.train["loss"] == pytest.approx(weighted(losses[part]), abs=ROUNDING)
        assert record.train["grad_norm"] == pytest.approx(weighted(norms[part]), abs=ROUNDING)


def test_the_last_batch_counts_its_real_examples_alone():
    """Rows that fill up the last batch change nothing, even if they are NaN."""
    values, weights = jnp.array([1.0, 5.0, jnp.nan, 7.0]), jnp.array([1.0, 1.0, 0.0, 0.0])
    assert float(mean(values, weights)) == 3
    assert jax.grad(mean)(values, weights).tolist() == [0.5, 0.5, 0, 0]


def test_weights_weigh():
    """An example of weight 2 counts as two of weight 1."""
    assert float(mean(jnp.array([1.0, 4.0]), jnp.array([1.0, 2.0]))) == 3


def test_sixteen_bits_do_not_overflow():
    """The norm of a float16 gradient is finite where its square is not, and a long batch's mean is exact."""
    linear = lambda params, x, key, carry: Outcome(params["w"] * x)
    params, data = {"w": jnp.zeros((), "float16")}, Minibatches(np.full(4, 1000, np.float16), 4)
    assert fit(linear, params, optax.sgd(1e-4), data, epochs=1).history[0].train["grad_norm"] == 1000
    assert float(mean(jnp.ones(4099, "bfloat16"), jnp.ones(4099))) == 1


def counts():
    """Return the numbers of compiled programs for training and validation."""
    return [function._cache_size() for function in (advance, advance_several, measure)]


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_nothing_is_compiled_twice(steps_per_call):
    """A filled-up last batch, more passes, other parameters and a second run compile nothing new."""
    options = {"validation": batches(7), "begin": begin, "steps_per_call": steps_per_call}
    run = partial(fit, partial(loss_fn), optimizer=SGD, batches=batches(), every=4, **options)
    initial_counts = counts()
    run(init(), epochs=1)
    counts_after = counts()
    assert [after - earlier for earlier, after in zip(initial_counts, counts_after, strict=True)] == [
        1,
        int(steps_per_call > 1),
        1,
    ]
    run(init(1), epochs=3)
    assert counts() == counts_after


@pytest.mark.parametrize("number", [0.0, jnp.array(0.0)], ids=["Python", "weak"])
@pytest.mark.parametrize("steps_per_call", [1, 2])
def test_a_number_is_a_parameter(number, steps_per_call):
    """Python numbers and JAX's weak types are trained like arrays, by one program."""
    loss = lambda params, x, key, carry: Outcome((params["w"] - x) ** 2)
    initial_counts = counts()
    result = fit(
        loss, {"w": number}, optax.sgd(0.5), Minibatches(np.full(8, 3, np.float32), 2), epochs=1, steps_per_call=steps_per_call
    )
    assert float(result.params["w"]) == 3
    assert sum(counts()) == sum(initial_counts) + 1


def test_buffers_are_donated_but_not_the_callers():
    """A step reuses the memory of the old state, but not that of the caller's parameters."""
    params, held = init(), []
    result = fit(loss_fn, params, SGD, batches(), epochs=2, callbacks=[lambda record, params: held.append(params)])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(held[0]))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves([params, result.params]))
    assert_equal(params, init())


@pytest.mark.parametrize("every", [1, 4, 5, None])
def test_steps_in_one_call_are_steps(every):
    """Any number of steps in a call gives the same results to rounding, and the same records."""
    run = partial(fit, loss_fn, init(), SGD, batches(), steps=10, key=KEY, begin=begin, every=every)
    single, several = run(), run(steps_per_call=3)
    assert_close(several.params, single.params)
    assert [record.step for record in several.history] == [record.step for record in single.history]
    for ours, theirs in zip(several.history, single.history, strict=True):
        assert ours.train == pytest.approx(theirs.train, abs=ROUNDING)


def test_batches_of_several_shapes():
    """Batches whose shapes change are trained one by one, and none is lost."""

    class Mixed(Minibatches):
        def epoch(self, number, start=0, part=(0, 1)):
            for (xs, labels), weights in super().epoch(number, start, part):
                yield Batch((xs[:, : 2 + int(labels[0])], labels), weights)

    def loss(params, examples, key, carry):
        kernel = params["kernel"][: examples[0].shape[1]]
        return loss_fn(params | {"kernel": kernel}, examples, key, carry)

    data = Mixed(batches().examples, 4, seed=0)
    params, _, _ = by_hand(loss, init(), SGD, data, 12, KEY)
    assert_close(fit(loss, init(), SGD, data, epochs=2, key=KEY, steps_per_call=2).params, params)


@pytest.mark.loose
def test_clipping_and_schedules_are_optax():
    """A clipped gradient changes the parameters by the learning rate. The recorded norm is unclipped."""
    loss = lambda params, x, key, carry: Outcome(params["w"] * x)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(optax.piecewise_constant_schedule(1.0, {2: 0.5})))
    result = fit(loss, {"w": jnp.zeros(())}, optimizer, Minibatches(np.full(4, 100, np.float32), 1), epochs=1, every=1)
    assert float(result.params["w"]) == -(1 + 1 + 0.5 + 0.5)
    assert [record.train["grad_norm"] for record in result.history] == [100] * 4


@pytest.mark.loose
def test_the_learning_rate_is_recorded_where_optax_shows_it():
    """With `inject_hyperparams` a record has the learning rate of its last step."""
    optimizer = optax.chain(optax.inject_hyperparams(optax.sgd)(optax.linear_schedule(1.0, 0.0, 10)))
    result = fit(loss_fn, init(), optimizer, batches(), steps=4, every=2)
    assert [record.train["learning_rate"] for record in result.history] == [pytest.approx(0.9), pytest.approx(0.7)]


def losses_and(**outcome_fields):
    return lambda params, examples, key, carry: Outcome(params["w"] * examples, **outcome_fields)


@pytest.mark.parametrize(
    ("loss", "start", "error", "sentence"),
    [
        (lambda params, examples, key, carry: params["w"] * examples, None, TypeError, r"Outcome\(losses.*got \w*Tracer"),
        (
            lambda params, examples, key, carry: Outcome((params["w"] * examples).mean()),
            None,
            ValueError,
            r"\(2,\), got \(\): leave",
        ),
        (losses_and(metrics={"mean": 1.0}), None, ValueError, r"mean of shape \(2,\), got \(\)"),
        (losses_and(metrics={"loss": np.ones(2)}), None, ValueError, "cannot be called 'loss'"),
        (losses_and(carry=np.ones(2)), None, ValueError, r"a carry like .* None, got float\d\d\[2\]: give begin"),
        (losses_and(), lambda size: jnp.zeros(size), ValueError, r"a carry like .* float32\[2\], got None"),
        (
            losses_and(carry=np.ones(3)),
            lambda size: jnp.zeros(size),
            ValueError,
            r"a carry like .* float32\[2\], got float\d\d\[3\]",
        ),
    ],
)
def test_a_wrong_loss_function_gets_one_sentence(loss, start, error, sentence):
    """Wrong results of the loss function are refused before training."""
    with pytest.raises(error, match=f"^[^\n]*{sentence}"):
        fit(loss, {"w": jnp.ones(())}, optax.sgd(0.1), Minibatches(np.ones(4, np.float32), 2), epochs=1, begin=start)


def test_batches_that_end_too_early_get_one_sentence():
    """Batches shorter than their length are refused instead of repeated forever."""

    class Short(Minibatches):
        def __len__(self):
            return 9

        def epoch(self, number, start=0, part=(0, 1)):
            yield from islice(super().epoch(number, start, part), 6 - start)

    with pytest.raises(ValueError, match=r"^epoch 0 of the batches has 3 fewer than their length, 9"):
        fit(loss_fn, init(), SGD, Short(batches().examples, 4), epochs=1)
