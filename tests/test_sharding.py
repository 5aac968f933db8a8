"""Data parallelism over eight devices gives the results of one device, and never gathers the batch."""

import re
from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jlstm import GRU, LSTM, RNN, Bidirectional, ConvLSTMCell, Stack
from problems import TIME, UNITS, assert_close, flags, small_problem

pytestmark = [pytest.mark.newest_jax, pytest.mark.no_cover]

DEVICES, BATCH = 8, 16
CASES = {  # layer, arguments for padding and resets, whether a carry is given
    "plain": (LSTM(UNITS), {}, True),
    "plain, no carry": (LSTM(UNITS), {}, False),
    "lengths": (LSTM(UNITS), {"lengths": np.arange(BATCH) % (TIME + 1)}, False),
    "resets, remat": (LSTM(UNITS, remat=2), {"resets": flags(0.4, batch=BATCH)}, False),
    "mask, reverse, unrolled": (LSTM(UNITS, reverse=True, unroll=2), {"mask": flags(0.6, batch=BATCH)}, True),
    "bidirectional": (Bidirectional(LSTM(UNITS)), {"lengths": np.arange(BATCH) % (TIME + 1)}, False),
    "GRU": (GRU(UNITS), {"lengths": np.arange(BATCH) % (TIME + 1)}, True),
    "stack": (Stack((LSTM(UNITS), LSTM(6, use_bias=False))), {}, True),
    "convolutional": (
        RNN(ConvLSTMCell(UNITS, 2, (3, 2), padding="same")),
        {"lengths": np.arange(BATCH) % (TIME + 1)},
        False,
    ),
}
ON_MESHES = {  # JAX has no gradient of a convolution on explicit axes: it asks where to put that of the kernel
    f"{name}, {axis_type}": (*case, axis_type)
    for name, case in CASES.items()
    for axis_type in (AxisType.Explicit, AxisType.Auto)
    if (name, axis_type) != ("convolutional", AxisType.Explicit)
}
DROPOUT = LSTM(UNITS, dropout=0.3, recurrent_dropout=0.2)


def mesh_of(axis_type):
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(axis_type,))


def loss(layer, params, xs, carry, sequence):
    last, ys = layer.apply(params, xs, carry, **sequence)
    return (ys**2).sum() + sum((leaf**2).sum() for leaf in jax.tree.leaves(last))


@partial(jax.jit, static_argnums=(0, 1))
def gradients(layer, with_carry, *args):
    """Return a loss and its gradients for params, xs and carry."""
    return jax.value_and_grad(partial(loss, layer), argnums=(0, 1, 2) if with_carry else (0, 1))(*args)


def gathers(compiled):
    """Return the operations of the compiled program that move parts of the batch between devices."""
    return set(re.findall("all-gather|all-to-all|collective-permute", compiled.as_text()))


def spread(mesh, params, *arrays):
    """Put the weights on all devices, and split all else along its first axis."""
    put = lambda spec: partial(jax.tree.map, lambda leaf: jax.device_put(leaf, NamedSharding(mesh, spec)))
    return put(P())(params), *put(P("data"))(arrays)


@pytest.mark.table(quick=3)
@pytest.mark.parametrize(("layer", "sequence", "with_carry", "axis_type"), ON_MESHES.values(), ids=ON_MESHES)
def test_mesh(layer, sequence, with_carry, axis_type):
    """With explicit or automatic mesh axes all gradients are right and sharded like the inputs, and nothing is gathered."""
    _, params, xs, carry = small_problem(layer, batch=BATCH, dtype=np.float32)
    args = (params, xs, carry if with_carry else None, sequence)
    expected = gradients(layer, with_carry, *args)
    mesh = mesh_of(axis_type)
    with jax.set_mesh(mesh):
        args = spread(mesh, *args)
        compiled = gradients.lower(layer, with_carry, *args).compile()
        got = compiled(*args)
    assert_close(got, expected, rtol=1e-4, atol=1e-4)  # float32 sums over a batch of 16, in another order
    assert got[1][1].sharding.is_equivalent_to(NamedSharding(mesh, P("data")), xs.ndim)
    assert gathers(compiled) == set()


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("name", CASES)
def test_shard_map(name):
    """Each device runs its part of the batch. Gradients summed over devices are those of the whole."""
    layer, sequence, with_carry = CASES[name]
    _, params, xs, carry = small_problem(layer, batch=BATCH, dtype=np.float32)
    args = (params, xs, carry if with_carry else None, sequence)

    def total(*args):
        return jax.lax.psum(loss(layer, *args), "data")

    spec = (P(), P("data"), P("data"), P("data"))
    sharded = jax.shard_map(total, mesh=mesh_of(AxisType.Auto), in_specs=spec, out_specs=P())
    compiled = jax.jit(jax.value_and_grad(sharded, argnums=(0, 1, 2) if with_carry else (0, 1))).lower(*args).compile()
    assert_close(compiled(*args), gradients(layer, with_carry, *args), rtol=1e-4, atol=1e-4)
    assert gathers(compiled) == set()


@pytest.mark.parametrize("axis_type", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "automatic"])
def test_dropout_on_a_mesh(axis_type):
    """A key gives the same masks however many devices there are."""
    _, params, xs, _ = small_problem(DROPOUT, batch=BATCH, dtype=np.float32)
    f = jax.jit(lambda params, xs, key: jax.value_and_grad(loss, 1)(DROPOUT, params, xs, None, {"key": key}))
    key, mesh = jax.random.key(3), mesh_of(axis_type)
    expected = f(params, xs, key)
    with jax.set_mesh(mesh):
        args = (*spread(mesh, params, xs), key)
        compiled = f.lower(*args).compile()
        assert_close(compiled(*args), expected, rtol=1e-4, atol=1e-4)
    assert gathers(compiled) == set()


def test_dropout_in_shard_map():
    """With one key for each device, every device draws other masks."""
    _, params, xs, _ = small_problem(DROPOUT, batch=BATCH, dtype=np.float32)
    same = np.tile(xs[:2], (DEVICES, 1, 1))
    keys = jax.random.split(jax.random.key(0), DEVICES)
    run = jax.shard_map(
        lambda params, xs, keys: DROPOUT.apply(params, xs, key=keys[0])[1],
        mesh=mesh_of(AxisType.Auto),
        in_specs=(P(), P("data"), P("data")),
        out_specs=P("data"),
    )
    ys = jax.jit(run)(params, same, keys)
    expected = [DROPOUT.apply(params, same[2 * k : 2 * k + 2], key=keys[k])[1] for k in range(DEVICES)]
    assert_close(ys, np.concatenate(expected), atol=1e-5)  # float32
    assert len({float(part.sum()) for part in expected}) == DEVICES


@pytest.mark.parametrize("name", ["plain", "stack"])
def test_step_on_an_explicit_mesh(name):
    """Streaming keeps the batch sharded."""
    layer = CASES[name][0]
    _, params, xs, carry = small_problem(layer, batch=BATCH, dtype=np.float32)
    expected = layer.step(params, carry, xs[:, 0])
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        args = spread(mesh, params, carry, xs[:, 0])
        compiled = jax.jit(layer.step).lower(*args).compile()
        assert_close(compiled(*args), expected, atol=1e-5)
    assert gathers(compiled) == set()
