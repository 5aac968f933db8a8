"""Compiled programs: one matmul for all inputs, one for each step, a size independent of time, and no recompilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jlstm import LSTM, RNN, Bidirectional, LSTMCell, Stack
from problems import BATCH, FEATURES, TIME, UNITS

pytestmark = pytest.mark.no_cover


def layer_shapes(layer, time, batch=BATCH):
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES))
    return params, jax.ShapeDtypeStruct((batch, time, FEATURES), jnp.float32)


def equations(jaxpr, inside=()):
    """Yield all equations, each with the names of the primitives around it."""
    for eqn in jaxpr.eqns:
        yield inside, eqn
        for sub in jaxprs_in_params(eqn.params):
            yield from equations(sub, (*inside, eqn.primitive.name))


def matmuls(layer):
    """Return the shapes of the first operands of all products, outside and inside loops."""
    shapes = {False: [], True: []}
    for inside, eqn in equations(jax.make_jaxpr(layer.apply)(*layer_shapes(layer, TIME)).jaxpr):
        if eqn.primitive.name == "dot_general":
            shapes["scan" in inside].append(eqn.invars[0].aval.shape)
    return shapes[False], shapes[True]


def test_inputs_are_projected_in_one_matmul():
    """One product outside the scan sees all time steps, one inside sees h, and there is no other."""
    assert matmuls(LSTM(UNITS, backend="fused")) == ([(TIME, BATCH, FEATURES)], [(BATCH, UNITS)])


def test_with_remat_each_chunk_is_projected_in_one_matmul():
    """With remat the one projection moves into the chunk: kept outside it would take O(T) memory."""
    assert matmuls(LSTM(UNITS, remat=2, backend="fused")) == ([], [(2, BATCH, FEATURES), (BATCH, UNITS)])


@pytest.mark.parametrize("options", [{}, {"remat": True}, {"unroll": 8, "backend": "fused"}, {"reverse": True}], ids=repr)
def test_compile_effort_does_not_grow_with_time(options):
    """The gradient's program for 1,024 steps has as many equations, and as many lines, as that for 16."""
    layer = LSTM(UNITS, **options)
    loss = lambda params, xs: layer.apply(params, xs)[1].sum()
    traces = [jax.jit(jax.grad(loss)).trace(*layer_shapes(layer, time)) for time in (16, 1024)]
    short, long = (len(list(equations(trace.jaxpr.jaxpr))) for trace in traces)
    assert short == long
    short, long = (len(trace.lower().as_text().splitlines()) for trace in traces)
    assert short == long


@pytest.mark.parametrize(("unroll", "expected"), [(1, 1), (5, 5), (True, 10)])
def test_unrolling_puts_that_many_steps_into_an_iteration(unroll, expected):
    """The compiled loop has `unroll` steps an iteration, or all of them."""
    jaxpr = jax.make_jaxpr(LSTM(UNITS, unroll=unroll, backend="fused").apply)(*layer_shapes(LSTM(UNITS), 10)).jaxpr
    assert [eqn.params["unroll"] for _, eqn in equations(jaxpr) if eqn.primitive.name == "scan"] == [expected]


@pytest.mark.parametrize(("platform", "expected"), [("cpu", 1), ("gpu", 8), ("tpu", 8)])
def test_how_far_the_loop_is_unrolled_depends_on_the_platform(monkeypatch, platform, expected):
    """Without `unroll` an iteration has 1 step on a CPU and 8 elsewhere. What the caller asks for is kept."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    for unroll, steps in ((None, expected), (5, 5), (1, 1)):
        layer = LSTM(UNITS, unroll=unroll, backend="fused")
        jaxpr = jax.make_jaxpr(layer.apply)(*layer_shapes(layer, 20)).jaxpr
        assert [eqn.params["unroll"] for _, eqn in equations(jaxpr) if eqn.primitive.name == "scan"] == [steps]


BUILDERS = {
    "LSTM": lambda: LSTM(UNITS, dropout=0.1, dtype=jnp.float32, activation="relu", remat=True),
    "names of dtypes": lambda: LSTM(UNITS, dtype="float32", param_dtype=np.float32),
    "callables": lambda: LSTM(UNITS, activation=jnp.tanh, kernel_init=jax.nn.initializers.ones),
    "Stack": lambda: Stack((LSTM(UNITS), Bidirectional(LSTM(2), merge=None))),
    "a list of layers": lambda: Stack([RNN(LSTMCell(UNITS)), LSTM(2)]),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_an_equal_layer_built_again_does_not_recompile(name):
    """Layers are equal and hash alike when their options are equal, and so a jit traces once for all of them."""
    traces = 0

    def init(layer):
        nonlocal traces
        traces += 1
        return layer.init(jax.random.key(0), FEATURES)

    compiled, build = jax.jit(init, static_argnums=0), BUILDERS[name]
    compiled(build())
    compiled(build())
    assert traces == 1
    assert build() == build()
    assert len({build(), build()}) == 1


def test_other_options_make_another_layer():
    """Each option counts when layers are compared."""
    options = {"activation": "relu", "use_bias": False, "forget_bias": None, "dropout": 0.1, "recurrent_dropout": 0.1}
    options |= {"kernel_init": "zeros", "reverse": True, "time_major": True, "unroll": 2, "remat": 2, "dtype": "float32"}
    options |= {"param_dtype": "float16", "backend": "scan", "output_activation": "relu", "bias_init": "ones"}
    layers = {LSTM(UNITS), LSTM(5), *(LSTM(UNITS, **{name: value}) for name, value in options.items())}
    assert len(layers) == 2 + len(options)


def test_layers_cannot_be_changed():
    """Options of cells and layers are frozen."""
    for frozen in (LSTM(UNITS), LSTMCell(UNITS), Stack((LSTM(UNITS),)), Bidirectional(LSTM(UNITS))):
        with pytest.raises(AttributeError, match="cannot assign"):
            frozen.units = 5
