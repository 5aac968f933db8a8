"""Parameters, initial values and checkpoints of `jlstm.compat.flax` are those of Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx, serialization

import jlstm.compat.flax
from flax_models import OURS
from jlstm import convert
from jlstm.backends.cpu import library
from jlstm.compat.flax import explain
from problems import BATCH, FEATURES, TIME, UNITS, assert_close, assert_equal

pytestmark = pytest.mark.loose
XS = np.random.default_rng(3).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)


def classifier(nn):
    """Return a linen model with several layers, whose modules Flax names by their classes: `GRUCell_0`, `Bidirectional_0`, …"""

    class Classifier(nn.Module):
        @nn.compact
        def __call__(self, xs):
            xs = nn.Bidirectional(nn.RNN(nn.LSTMCell(UNITS)), nn.RNN(nn.OptimizedLSTMCell(UNITS)))(nn.Dense(5)(xs))
            h, ys = nn.RNN(nn.GRUCell(3), return_carry=True)(xs)
            return nn.Dense(2)(h), nn.RNN(nn.SimpleCell(2), name="last")(ys)

    return Classifier()


def network(nnx_modules):
    """Return an nnx model with several layers."""
    rngs = nnx_modules.Rngs(0)
    directions = [nnx_modules.RNN(cell(FEATURES, UNITS, rngs=rngs)) for cell in (nnx.LSTMCell, nnx.OptimizedLSTMCell)]
    last = nnx_modules.RNN(nnx_modules.GRUCell(2 * UNITS, 3, rngs=rngs), rngs=rngs)
    return nnx_modules.Sequential(nnx_modules.Bidirectional(*directions), last)


@pytest.fixture(scope="module")
def variables():
    """Return the variables that Flax draws for the linen model."""
    return classifier(linen).init(jax.random.key(7), XS)  # not compiled: XLA may round differently in another program


def test_linen_draws_the_same_parameters(variables):
    """`init` gives Flax's names, shapes and bits."""
    assert_equal(classifier(OURS[linen]).init(jax.random.key(7), XS), variables)


def test_linen_checkpoints_load_both_ways(variables):
    """A checkpoint of Flax loads into our model, gives Flax's outputs, and is written back unchanged."""
    ours, theirs = classifier(OURS[linen]), classifier(linen)
    template = jax.tree.map(jnp.zeros_like, variables)
    restored = serialization.from_bytes(template, serialization.to_bytes(variables))
    assert_equal(restored, variables)
    assert_close(jax.jit(ours.apply)(restored, XS), jax.jit(theirs.apply)(restored, XS), 1e-6)
    assert_equal(serialization.from_bytes(variables, serialization.to_bytes(restored)), variables)


def test_nnx_draws_the_same_state_and_loads_it_both_ways():
    """The state, also that of the random streams, has Flax's names and bits before and after a call, and can be exchanged."""
    ours, theirs = network(OURS[nnx]), network(nnx)
    states = lambda: [nnx.to_pure_dict(nnx.state(model, nnx.Any(nnx.Param, nnx.RngCount))) for model in (ours, theirs)]
    assert_equal(*states())
    changed = jax.tree.map(lambda leaf: leaf + 0.1, nnx.state(theirs, nnx.Param))
    nnx.update(theirs, changed)
    nnx.update(ours, nnx.state(theirs, nnx.Param))
    assert_close(ours(XS), theirs(XS), 1e-6)
    assert_equal(*states())
    nnx.update(theirs, nnx.state(ours, nnx.Param))
    assert_equal(nnx.to_pure_dict(nnx.state(theirs, nnx.Param)), nnx.to_pure_dict(changed))


def test_partitioned_parameters_keep_their_metadata():
    """Parameters in boxes, as for sharding, are read like others."""
    kernel_init = linen.with_partitioning(jax.nn.initializers.lecun_normal(), ("features", "units"))
    models = [nn.RNN(nn.OptimizedLSTMCell(UNITS, kernel_init=kernel_init)) for nn in (OURS[linen], linen)]
    ours, theirs = (model.init(jax.random.key(0), XS) for model in models)
    assert_equal(ours, theirs)
    assert ours["params"]["cell"]["ii"]["kernel"].names == ("features", "units")
    assert_close(*(jax.jit(model.apply)(ours, XS) for model in models), 1e-6)


@pytest.mark.parametrize("modules", [linen, nnx])
def test_all_names_but_rnn_are_those_of_flax(modules):
    """Changing the import of a whole module changes `RNN` alone, which is a subclass of Flax's."""
    ours = OURS[modules]
    names = [name for name in dir(modules) if not name.startswith("_")]
    assert [name for name in names if getattr(ours, name) is not getattr(modules, name)] == ["RNN"]
    assert issubclass(ours.RNN, modules.RNN)
    assert ours.RNN.__name__ == "RNN"


@pytest.mark.usefixtures("native")
def test_the_native_kernel_runs():
    """`explain` lists every RNN of a model in the order in which they run."""
    cpu = f"cpu ({library.load().instructions})"
    lines = str(explain(classifier(OURS[linen]).init, jax.random.key(0), XS)).splitlines()
    assert lines == [
        f"LSTMCell(units=4) is run by {cpu}",
        f"LSTMCell(units=4) is run by {cpu}",
        f"GRUCell(units=3) is run by {cpu}",
        "SimpleCell is run by flax; not by jlstm: it is not an LSTMCell, OptimizedLSTMCell or GRUCell",
    ]
    explanation = jlstm.compat.flax.explain(network(OURS[nnx]), jax.ShapeDtypeStruct(XS.shape, XS.dtype))
    assert [choice.backend for choice in explanation.choices] == ["cpu"] * 3


@pytest.mark.slow
def test_transformations_of_flax_and_jax_work(variables):
    """`nn.remat`, `nn.vmap` and `nnx.jit` of an RNN give the results and gradients of the plain one."""
    nn = OURS[linen]
    cell = {"params": {"cell": variables["params"]["GRUCell_0"]}}
    xs = np.random.default_rng(0).normal(size=(BATCH, TIME, 2 * UNITS)).astype(np.float32)
    loss = lambda kind: jax.jit(jax.grad(lambda variables: jnp.sum(kind(nn.GRUCell(3)).apply(variables, xs) ** 2)))
    expected = loss(nn.RNN)(cell)
    for kind in (nn.remat(nn.RNN), nn.vmap(nn.RNN, variable_axes={"params": None}, split_rngs={"params": False})):
        assert_close(loss(kind)(cell), expected, atol=1e-5, rtol=1e-4)
    model = network(OURS[nnx])
    assert_close(nnx.jit(lambda model, xs: model(xs))(model, XS), model(XS), 1e-6)


def test_missing_and_misshapen_parameters_have_the_errors_of_flax():
    """Flax names the parameter that is missing or has another shape."""
    model = OURS[linen].RNN(linen.LSTMCell(UNITS))
    variables = model.init(jax.random.key(0), XS)
    with pytest.raises(Exception, match=r"(?i)parameter|param"):
        model.apply({"params": {}}, XS)
    with pytest.raises(Exception, match="shape"):
        model.apply(variables, XS[..., :2])


def test_the_converter_reads_the_same_parameters(variables):
    """`jlstm.convert.flax.load` makes a layer of jlstm from them, with the same outputs."""
    layer, params = convert.flax.load(variables["params"]["GRUCell_0"])
    xs = np.random.default_rng(0).normal(size=(BATCH, TIME, 2 * UNITS)).astype(np.float32)
    ys = jax.jit(OURS[linen].RNN(linen.GRUCell(3)).apply)({"params": {"cell": variables["params"]["GRUCell_0"]}}, xs)
    assert_equal(ys, jax.jit(layer.apply)(params, xs)[1])
