"""Eight devices train as one does, to the same losses and parameters, and never gather a batch."""

import re
from functools import cache
from types import SimpleNamespace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

import scaling
from jlstm.data import Minibatches
from jlstm.train import Outcome, evaluate, fit, mesh, sharding
from jlstm.train.passes import Task, initial
from jlstm.train.step import advance, advance_several

pytestmark = pytest.mark.loose

OPTIONS = {"classifier": {}, "language model": {"steps_per_call": 2}}


@cache
def one_device(name):
    """The result of the run on one device, in float64."""
    return scaling.run(scaling.PROBLEMS[name](), **OPTIONS[name])


def assert_same(got, expected):
    """Assert that parameters, best parameters and records agree to rounding."""
    leaves = (jax.tree.leaves((result.params, result.best)) for result in (got, expected))
    for leaf, wanted in zip(*leaves, strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=0, atol=1e-12)  # float64 sums over a batch in another order, 12 steps
    for numbers, wanted in zip(scaling.figures(got.history), scaling.figures(expected.history), strict=True):
        np.testing.assert_allclose(numbers, wanted, rtol=1e-6)  # records are sums in float32


@pytest.mark.table(quick=1)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "units"), [("classifier", 1), ("language model", 1), ("language model", 2)])
def test_eight_devices_are_one(name, units):
    """The runs have dropout, Adam, padded batches and carries, with and without split columns."""
    problem = scaling.PROBLEMS[name]()
    result = scaling.run(problem, mesh(units), **OPTIONS[name])
    assert_same(result, one_device(name))
    assert result.params["layer_0"]["kernel"].sharding.spec == (P() if units == 1 else P(None, "units"))
    measured = evaluate(problem.loss_fn, result.params, problem.validation, begin=problem.begin)
    assert measured == result.history[-1].validation  # without `mesh`, since `evaluate` finds it


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_one_device_goes_on_from_the_checkpoint_of_eight(tmp_path):
    """A checkpoint does not depend on devices or on split columns."""
    scaling.run(scaling.classifier(), mesh(units=2), epochs=2, checkpoints=tmp_path)
    assert_same(scaling.run(scaling.classifier(), checkpoints=tmp_path), one_device("classifier"))


def compiled(problem, mesh, steps_per_call=1):
    """Compile a training step."""
    task = Task(problem.loss_fn, problem.optimizer, problem.batches, problem.begin, steps_per_call, mesh)
    state, key, batch = initial(task, problem.params), jax.random.key(0), next(problem.batches.epoch(0))
    if steps_per_call > 1:
        batch = jax.tree.map(lambda leaf: np.stack([leaf] * steps_per_call), batch)
    args = state, sharding.replicate(mesh, key), sharding.feed(mesh, batch, axis=int(steps_per_call > 1))
    step = advance if steps_per_call == 1 else advance_several
    return step.lower(task.rule, mesh, *args).compile().as_text()


def travels(program):
    """Return the kinds of communication among devices."""
    return set(re.findall("all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter", program))


@pytest.mark.parametrize("name", scaling.PROBLEMS)
def test_only_gradients_travel(name):
    """The compiled step sums over devices, and neither gathers nor moves anything else."""
    assert travels(compiled(scaling.PROBLEMS[name](), mesh(), **OPTIONS[name])) == {"all-reduce"}


def test_gradients_travel_once():
    """With `fused` no sum over devices is in the loop over time. `lax.scan` puts one there, for the gradients."""
    for backend, within in (("fused", 0), ("scan", 1)):
        program = compiled(scaling.classifier(backend=backend), mesh())
        outside = program[program.index("\nENTRY") :]
        assert " while(" in outside
        assert outside.count(" all-reduce(") > 0
        assert program.count(" all-reduce(") - outside.count(" all-reduce(") == within


def test_a_loss_that_needs_the_whole_batch_is_noticed():
    """A loss that sorts the batch gathers it, so the test above can fail."""
    loss_fn = lambda params, xs, key, carry: Outcome(jnp.sort(params * xs))
    problem = scaling.Problem(loss_fn, jnp.ones(()), optax.sgd(0.1), Minibatches(np.arange(16.0, dtype=np.float32), 16), None)
    assert "all-gather" in travels(compiled(problem, mesh()))


def test_what_lies_where():
    """Matrices and their optimizer state are split by columns, and carries by batch. All else is on all devices."""
    problem, where = scaling.language_model(), mesh(units=2)
    state = initial(Task(problem.loss_fn, optax.adam(0.1), problem.batches, problem.begin, 1, where), problem.params)
    spec = lambda leaf: leaf.sharding.spec
    assert spec(state.params["layer_0"]["kernel"]) == P(None, "units")
    assert spec(state.opt_state[0].mu["layer_0"]["recurrent_kernel"]) == P(None, "units")
    assert spec(state.params["head"]["kernel"]) == P()  # eleven columns
    assert spec(state.params["head"]["bias"]) == spec(state.step) == P()
    assert {spec(leaf) for leaf in jax.tree.leaves(state.carry)} == {P("batch")}
    assert spec(sharding.split(where, {"count": np.zeros(())})["count"]) == P()


@given(processes=st.integers(1, 4), local=st.integers(1, 4), units=st.integers(1, 16))
def test_processes_share_a_batch(processes, local, units):
    """Each process feeds the rows of its own devices on any mesh. Wrong shapes are refused."""
    devices = [SimpleNamespace(process_index=k // local, id=k) for k in range(processes * local)]
    fake_mesh = lambda devices, _: SimpleNamespace(devices=devices, shape=shape(devices))
    with mock.patch("jax.process_index", return_value=0), mock.patch("jlstm.train.sharding.Mesh", fake_mesh):
        if len(devices) % units or (local % units and units % local):
            with pytest.raises(ValueError, match=r"^units must"):
                mesh(units, devices[::-1])
            return
        where = mesh(units, devices[::-1])
    rows = np.arange(6 * len(where.devices)).reshape(len(where.devices), 6)  # the rows of each place on the batch axis
    for process in range(processes):
        with mock.patch("jax.process_index", return_value=process):
            index, count = sharding.part(where, rows.size)
        local_places = [place for place, row in enumerate(where.devices) if process in {device.process_index for device in row}]
        np.testing.assert_array_equal(np.split(rows.ravel(), count)[index], rows[local_places].ravel())


@pytest.mark.parametrize(("processes", "sentence"), [((0, 0, 0, 1), "{0: 3, 1: 1}"), ((1, 1), "{1: 2}")])
def test_every_process_has_equally_many_devices(processes, sentence):
    """Otherwise a process would feed another one's rows."""
    devices = [SimpleNamespace(process_index=process, id=k) for k, process in enumerate(processes)]
    with pytest.raises(ValueError, match=rf"^every process must have equally many of the devices, got {sentence}"):
        mesh(devices=devices)


def test_optimizers_may_keep_keys():
    """Gradient noise from an optimizer's key is the same on eight devices and on one."""
    results = [
        fit(scaled, jnp.ones(()), optax.add_noise(0.1, 0.5, 7), Minibatches(np.ones(16, np.float32), 8), steps=3, mesh=where)
        for where in (None, mesh())
    ]
    np.testing.assert_allclose(results[0].params, results[1].params, rtol=1e-6)


def test_evaluate_takes_parameters_to_the_mesh():
    """Parameters restored from a checkpoint lie on one device."""
    params, batches = jax.device_put(jnp.ones(()), jax.devices()[1]), Minibatches(np.arange(16, dtype=np.float32), 8)
    assert evaluate(scaled, params, batches, mesh=mesh()) == evaluate(scaled, params, batches)


def scaled(params, xs, key, carry):
    """A loss with one parameter."""
    return Outcome(params * xs)


def shape(devices):
    return dict(zip(("batch", "units"), devices.shape, strict=True))


def test_a_batch_that_cannot_be_divided():
    """The error is our sentence and not JAX's."""
    batches = Minibatches(np.ones(20, np.float32), 10)
    with pytest.raises(ValueError, match="a batch of 10 cannot be divided among 8 devices: choose a size that is a multiple"):
        fit(scaled, jnp.ones(()), optax.sgd(0.1), batches, steps=1, mesh=mesh())


def test_several_processes_need_a_mesh():
    """Without a mesh each process would train its own model."""
    with mock.patch("jax.process_count", return_value=2), pytest.raises(ValueError, match=r"give mesh=jlstm.train.mesh\(\)"):
        sharding.place(None, {})
