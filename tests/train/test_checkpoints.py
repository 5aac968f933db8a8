"""A stopped run goes on from its checkpoint to the same results, and a checkpoint of another run is refused."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.experimental import multihost_utils

from jlstm.train import early_stopping, fit, mesh, restore
from jlstm.train.history import read
from problems import assert_equal
from training import SGD, batches, begin, init, loss_fn

KEY = jax.random.key(3)


def comparable(history):
    """Return the fields of records that do not depend on the clock."""
    return [record._replace(seconds=0, examples_per_second=0) for record in history]


class StoppedError(Exception):
    """The exception by which a test stops a run."""


def stop_at(step):
    """Return a callback that stops the run at that record, before its checkpoint is written."""

    def callback(record, params):
        if record.step == step:
            raise StoppedError

    return callback


@pytest.mark.parametrize("options", [{"begin": begin, "steps_per_call": 3}, {"key": KEY}], ids=["carry", "key"])
def test_a_run_that_was_stopped_goes_on_bit_by_bit(options, tmp_path):
    """A run stopped at three records has the parameters, best ones, records and file of one that was not."""
    run = partial(fit, loss_fn, optimizer=SGD, batches=batches(), epochs=4, every=5, validation=batches(7), **options)
    whole = run(init(), history=tmp_path / "whole.jsonl")
    for step in (5, 15, 24):
        with pytest.raises(StoppedError):
            run(init(), checkpoints=tmp_path / "run", history=tmp_path / "history.jsonl", callbacks=[stop_at(step)])
    result = run(
        init(1), checkpoints=tmp_path / "run", history=tmp_path / "history.jsonl"
    )  # initial parameters of another seed are ignored
    assert_equal((result.params, result.best), (whole.params, whole.best))
    assert comparable(result.history) == comparable(whole.history) == comparable(read(tmp_path / "history.jsonl"))
    assert_equal(restore(tmp_path / "run", init()), whole.params)
    assert_equal(restore(tmp_path / "run", jax.eval_shape(init), best=True), whole.best)


def test_a_run_that_is_done_is_not_done_again(tmp_path):
    """A finished run returns its results. With more epochs it goes on."""
    run = partial(fit, loss_fn, init(), SGD, batches(), checkpoints=tmp_path, validation=batches(7))
    first = run(epochs=2)
    again = run(epochs=2, callbacks=[pytest.fail])
    assert_equal((again.params, again.best), (first.params, first.best))
    assert again.history == first.history
    assert_equal(run(epochs=3).params, fit(loss_fn, init(), SGD, batches(), epochs=3).params)


def test_a_run_may_start_anew(tmp_path):
    """An old run is removed only after the arguments have been checked."""
    run = partial(fit, loss_fn, init(), SGD, checkpoints=tmp_path, resume=False)
    run(batches(), epochs=2)
    two = mesh(devices=jax.devices()[:2])
    with pytest.raises(ValueError, match="a batch of 7 cannot be divided among 2 devices"):
        run(batches(), epochs=1, mesh=two, validation=batches(7, size=7))
    assert_equal(restore(tmp_path, init()), fit(loss_fn, init(), SGD, batches(), epochs=2).params)
    anew = run(batches(), epochs=1)
    assert [record.step for record in anew.history] == [6]
    assert_equal(restore(tmp_path, init()), anew.params)


def test_orbax_does_not_ask_whether_to_stop(tmp_path, monkeypatch):
    """JAX tells each number only once, and `SharedInterruption` counts them."""
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", pytest.fail)
    fit(loss_fn, init(), SGD, batches(), epochs=1, checkpoints=tmp_path)


def test_early_stopping_stops_a_run_that_goes_on(tmp_path):
    """A run that stopped early is not trained further when it is started again."""
    run = partial(fit, loss_fn, init(), SGD, batches(), epochs=50, checkpoints=tmp_path, validation=batches(7))
    first = run(stop=early_stopping(patience=2))
    assert run(stop=early_stopping(patience=2), callbacks=[pytest.fail]).history == first.history


@pytest.mark.loose
def test_the_state_of_any_optimizer_is_kept(tmp_path):
    """Moments, counts, hyperparameters and keys of an optimizer's own, and figures that are NaN, survive."""
    optimizer = optax.chain(optax.add_noise(0.1, 0.5, 7), optax.inject_hyperparams(optax.adam)(optax.linear_schedule(0.1, 0, 12)))
    nan = lambda *args: loss_fn(*args)._replace(metrics={"nan": jnp.full(4, jnp.nan)})
    run = partial(fit, nan, init(), optimizer, batches(), epochs=2)
    whole = run()
    with pytest.raises(StoppedError):
        run(checkpoints=tmp_path, every=6, callbacks=[stop_at(12)])
    result = run(checkpoints=tmp_path)
    assert_equal(result.params, whole.params)
    np.testing.assert_equal(comparable(result.history), comparable(whole.history))  # NaN equals NaN here


def test_parameters_in_sixteen_bits_stay_in_sixteen_bits(tmp_path):
    """Each array comes back in its own 16-bit dtype."""
    params = {"w": jnp.ones(3, "bfloat16"), "v": jnp.ones(2, "float16")}
    loss = lambda params, examples, key, carry: loss_fn(init(), examples, key, carry)
    fit(loss, params, SGD, batches(), epochs=1, checkpoints=tmp_path)
    assert_equal(restore(tmp_path, params), params)


OTHER_PARAMS = {
    name: init() | {name: leaf} for name, leaf in {"kernel": jnp.ones((3, 6)), "output": jnp.ones(5, "bfloat16")}.items()
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"params": OTHER_PARAMS["kernel"]}, r"its params\.kernel is float32\[3, 5\], expected float32\[3, 6\]"),
        ({"params": OTHER_PARAMS["output"]}, r"its params\.output is float32\[5\], expected bfloat16\[5\]"),
        ({"params": init() | {"more": jnp.ones(1)}}, r"its params\.more is missing, expected float32\[1\]"),
        ({"optimizer": optax.sgd(0.5, momentum=0.9)}, r"its training\.state\.moments\.0\.trace\.kernel is missing, expected"),
        ({"batches": batches(size=2)}, "its batches is 6 of 4 examples, seed 0, expected 11 of 2 examples, seed 0"),
        ({"batches": batches(seed=1)}, "its batches is 6 of 4 examples, seed 0, expected 6 of 4 examples, seed 1"),
        ({"key": KEY}, r"its key is \[0, 0\], expected \[0, 3\]"),
        ({"validation": None}, r"its best\.kernel is float32\[3, 5\], expected nothing"),
        ({"begin": begin}, r"its training\.state\.carry is missing, expected float32\[4, 5\]"),
        ({"key": jax.random.key(0, impl="rbg")}, r"its key is \[0, 0\], expected \[0, 0, 0, 0\]"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change, sentence, checkpoint, capfd):
    """Another model, optimizer, batch size, carry or key is named in one sentence."""
    options = {"params": init(), "optimizer": SGD, "batches": batches(), "validation": batches(7)} | change
    with pytest.raises(ValueError, match=f"^the checkpoint in [^\n]* is of another run: {sentence}.*: give that run's model"):
        fit(lambda *args: loss_fn(init(), *args[1:]), **options, epochs=2, checkpoints=checkpoint)
    assert capfd.readouterr() == ("", "")


def test_a_refusal_leaves_nothing_behind_that_complains(checkpoint):
    """A program with many refusals has nothing on stderr when it ends."""
    program = f"""
import jax
from jlstm.train import restore

for units in range(1, 10):
    shapes = {{"kernel": (3, units), "output": (5,)}}
    try:
        restore({str(checkpoint)!r}, {{name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in shapes.items()}})
    except ValueError:
        print("refused")
"""
    process = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert (process.stdout.count("refused"), process.stderr) == (8, "")  # only one of the nine cases fits


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The folder of a finished run."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        folder = tmp_path_factory.mktemp("checkpoint")
        fit(loss_fn, init(), SGD, batches(), epochs=1, validation=batches(7), checkpoints=folder)
        return folder


def test_restore_looks_at_the_parameters_alone(checkpoint):
    """Parameters are restored without the optimizer, also from shapes. Others are refused."""
    shapes = jax.eval_shape(init)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), restore(checkpoint, shapes)) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )
    assert_equal(restore(checkpoint, jax.tree.map(np.asarray, init())), restore(checkpoint, shapes, best=True))  # one record only
    with pytest.raises(ValueError, match=r"its params\.kernel is float32\[3, 5\], expected float32\[3, 6\]"):
        restore(checkpoint, OTHER_PARAMS["kernel"])


def test_restore_of_nothing_gets_one_sentence(tmp_path):
    """A missing or empty folder, a file, and a run without best parameters are refused."""
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none: train with checkpoints="):
        restore(tmp_path / "none", init())
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint in .*: train with checkpoints="):
        restore(tmp_path, init())
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"file is a file: name a folder for the checkpoints"):
        fit(loss_fn, init(), SGD, batches(), epochs=1, checkpoints=tmp_path / "file")
    fit(loss_fn, init(), SGD, batches(), epochs=1, checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"has no best parameters: train with validation data, or give best=False"):
        restore(tmp_path, init(), best=True)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    """A folder that orbax wrote for another program is refused."""
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(3, args=ocp.args.Composite(params=ocp.args.StandardSave(init())))
    with pytest.raises(ValueError, match=r"^the checkpoint in .* was not written by jlstm\.train\.fit: give another folder"):
        restore(tmp_path, init())


def test_reading_leaves_a_run_that_writes_alone(checkpoint):
    """`restore` leaves half-written files in the folder. The run removes them when it goes on."""
    half = checkpoint / "99.orbax-checkpoint-tmp"
    half.mkdir()
    restore(checkpoint, init())
    assert half.exists()
    fit(loss_fn, init(), SGD, batches(), epochs=1, validation=batches(7), checkpoints=checkpoint)
    assert not half.exists()


def test_two_runs_in_one_process_have_a_folder_each(tmp_path):
    """Two runs, one after the other, leave two checkpoints."""
    results = [fit(loss_fn, init(n), SGD, batches(), epochs=1, checkpoints=tmp_path / str(n)) for n in range(2)]
    for n, result in enumerate(results):
        assert_equal(restore(tmp_path / str(n), init()), result.params)
