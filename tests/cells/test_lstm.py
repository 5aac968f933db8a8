"""The LSTM's equations, written out, and the options of the cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm import LSTM, LSTMCarry, LSTMCell
from jlstm.activations import ACTIVATIONS
from parity import textbook
from problems import FEATURES, UNITS, assert_close, cotangent_of, differentiate, normal, small_problem, textbook_results

pytestmark = [pytest.mark.every_backend, pytest.mark.no_cover, pytest.mark.usefixtures("x64")]


def test_one_step_is_the_equations():
    """One step equals the four gates written out with columns i, f, g, o."""
    layer, params, xs, carry = small_problem(LSTM(UNITS))
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    zs = xs[:, 0] @ params["kernel"] + carry.h @ params["recurrent_kernel"] + params["bias"]
    i, f, g, o = zs[:, :4], zs[:, 4:8], zs[:, 8:12], zs[:, 12:]
    c = sigmoid(f) * carry.c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    assert_close(layer.step(params, carry, xs[:, 0]), (LSTMCarry(h, c), h), atol=1e-15)


def test_the_cell_alone_runs_a_step():
    """The cell's own methods, begin, project and step, are one step of the layer."""
    layer, params, xs, carry = small_problem(LSTM(UNITS))
    initial, context = layer.cell.begin(params, (2,), jnp.float64)
    z = jax.tree.map(lambda leaf: leaf[0], layer.cell.project(params, context, xs[None, :, 0]))
    assert_close(layer.cell.step(params, context, carry, z), layer.step(params, carry, xs[:, 0]), atol=0)
    assert_close(initial, LSTMCarry(np.zeros((2, UNITS)), np.zeros((2, UNITS))), atol=0)


@pytest.mark.table(quick=5)
@pytest.mark.parametrize("name", sorted(textbook.ACTIVATIONS))
@pytest.mark.parametrize("option", ["activation", "recurrent_activation", "output_activation"])
def test_activations_act_where_they_should(name, option):
    """Each activation in each of the three places gives the textbook's values and gradients."""
    problem = small_problem(LSTM(UNITS, **{option: name}))
    problem = problem._replace(params=jax.tree.map(lambda leaf: leaf / 4, problem.params))  # a linear gate makes c explode
    cotangent = cotangent_of(problem)
    assert_close(differentiate(problem.layer, cotangent, *problem[1:]), textbook_results(*problem, cotangent), atol=1e-11)


def test_output_activation_follows_activation():
    """Without `output_activation` the cell state goes through `activation`, as in Keras."""
    _, params, xs, _ = small_problem(LSTM(UNITS))
    follows, says_so = (LSTM(UNITS, activation="relu", output_activation=name) for name in (None, "relu"))
    assert_close(follows.apply(params, xs), says_so.apply(params, xs), atol=0)
    assert np.abs(follows.apply(params, xs)[1] - LSTM(UNITS).apply(params, xs)[1]).max() > 0.01


CLOSED_FORMS = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "gelu": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid_0.2": lambda x: np.clip(x / 5 + 0.5, 0, 1),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
}


def test_names_stand_for_their_functions():
    """Every activation known by name equals its closed form, on both sides of all its corners."""
    x = np.linspace(-5, 5, 41) + 0.01
    assert ACTIVATIONS.keys() == CLOSED_FORMS.keys()
    for name, closed_form in CLOSED_FORMS.items():
        np.testing.assert_allclose(ACTIVATIONS[name](x), closed_form(x), atol=1e-14, err_msg=name)


def test_a_callable_is_its_own_name():
    """A function given as activation is the same as its name."""
    _, params, xs, _ = small_problem(LSTM(UNITS))
    by_callable, by_name = LSTM(UNITS, activation=jax.nn.relu), LSTM(UNITS, activation="relu")
    assert_close(by_callable.apply(params, xs), by_name.apply(params, xs), atol=1e-14)  # the name may be run by the kernel


@pytest.mark.parametrize(
    ("use_bias", "names"), [(True, {"kernel", "recurrent_kernel", "bias"}), (False, {"kernel", "recurrent_kernel"})]
)
def test_parameters_have_keras_names_and_shapes(use_bias, names):
    """Parameters are a dict with Keras's names, shapes and column order, without a bias if `use_bias` is False."""
    params = LSTMCell(UNITS, use_bias=use_bias).init(jax.random.key(0), FEATURES)
    shapes = {"kernel": (FEATURES, 4 * UNITS), "recurrent_kernel": (UNITS, 4 * UNITS), "bias": (4 * UNITS,)}
    assert {name: leaf.shape for name, leaf in params.items()} == {name: shapes[name] for name in names}


def test_gate_columns_are_input_forget_candidate_output():
    """Driving one gate at a time through its bias shows which columns belong to it."""
    columns = np.zeros((4, UNITS))
    closed, open_ = -100.0, 100.0

    def run(i, f, g, o):
        zero = {"kernel": np.zeros((FEATURES, 16)), "recurrent_kernel": np.zeros((UNITS, 16))}
        bias = (columns + np.array([i, f, g, o])[:, None]).ravel()
        carry = LSTMCarry(np.zeros((1, UNITS)), np.full((1, UNITS), 0.5))
        return LSTM(UNITS).step(zero | {"bias": bias}, carry, normal(np.empty((1, FEATURES)), rng=np.random.default_rng(0)))[0]

    assert_close(run(closed, open_, 1, open_).c, np.full((1, UNITS), 0.5), atol=1e-15)  # forget gate open: c stays
    assert_close(run(open_, closed, 1, open_).c, np.full((1, UNITS), np.tanh(1)), atol=1e-15)  # input gate open: c is tanh(g)
    assert_close(run(closed, open_, 1, closed).h, np.zeros((1, UNITS)), atol=1e-15)  # output gate closed: h is nothing
