"""The LSTM as a layer: where its options go and how they read."""

import inspect
from dataclasses import fields
from typing import get_args, get_type_hints

import jax
import numpy as np
import pytest

import jlstm
from jlstm import LSTM, RNN, LSTMCell
from jlstm.backends import BACKENDS
from jlstm.cells import GRUCell
from jlstm.cells.lstm import GATE_NAMES
from jlstm.cells.normalization import SCHEMES
from jlstm.layers.constructors import GRUOptions, LSTMOptions
from problems import FEATURES, UNITS

pytestmark = [
    pytest.mark.every_backend,
    pytest.mark.newest_jax,
    pytest.mark.no_cover,
]  # other tests reach the same lines, and tracing takes a quarter of the time


def test_options_go_where_they_belong():
    """`LSTM` is `RNN(LSTMCell(...), ...)` with every option given to the one of the two that has it."""
    of_cell = {"activation": "relu", "dropout": 0.1, "use_bias": False}
    of_loop = {"reverse": True, "remat": 3, "dtype": "bfloat16"}
    assert LSTM(UNITS, **of_cell, **of_loop) == RNN(LSTMCell(UNITS, **of_cell), **of_loop)


def test_the_signature_lists_all_options():
    """Completion in an editor shows every option of cell and loop once, with its default."""
    parameters = inspect.signature(LSTM).parameters
    expected = {
        field.name: field.default for cls in (LSTMCell, RNN) for field in fields(cls) if field.name not in ("cell", "units")
    }
    assert {name: parameter.default for name, parameter in parameters.items() if name != "units"} == expected


@pytest.mark.parametrize(("cell", "options"), [(LSTMCell, LSTMOptions), (GRUCell, GRUOptions)])
def test_the_types_of_options_are_complete(cell, options):
    """A type checker knows every option of cell and loop, and each word that an option allows."""
    names = {field.name for kind in (cell, RNN) for field in fields(kind)} - {"cell", "units"}
    types = get_type_hints(options)
    assert types.keys() == names
    assert set(get_args(types["backend"])) == set(BACKENDS)
    if cell is LSTMCell:
        assert {word for part in get_args(types["layer_norm"]) for word in get_args(part)} == set(SCHEMES)
        assert {word for part in get_args(types["coupled"]) for word in get_args(part)} == set(GATE_NAMES) - {None}


def test_dtypes_are_normalized():
    """A dtype by name, as a NumPy or as a JAX type is the same option."""
    assert LSTM(UNITS, dtype="float32") == LSTM(UNITS, dtype=np.float32) == LSTM(UNITS, dtype=jax.numpy.float32)
    assert hash(LSTM(UNITS, param_dtype="bfloat16")) == hash(LSTM(UNITS, param_dtype=jax.numpy.bfloat16))


def test_stochastic_says_whether_keys_matter():
    """A cell with dropout draws from a key, one without does not."""
    assert LSTMCell(UNITS, dropout=0.1).stochastic
    assert LSTMCell(UNITS, recurrent_dropout=0.1).stochastic
    assert not LSTMCell(UNITS).stochastic


def test_numpy_and_lists_will_do():
    """Inputs, parameters, lengths and masks may be NumPy arrays. Lengths and masks may be lists."""
    params = jax.tree.map(np.asarray, LSTM(UNITS).init(jax.random.key(0), FEATURES))
    xs = np.random.default_rng(0).normal(size=(2, 3, FEATURES)).astype(np.float32)
    _, by_lengths = LSTM(UNITS).apply(params, xs, lengths=[3, 1])
    _, by_mask = LSTM(UNITS).apply(params, xs, mask=[[True, True, True], [True, False, False]])
    np.testing.assert_array_equal(by_lengths, by_mask)


def test_arguments_are_left_alone():
    """`apply` changes none of its arguments."""
    layer = LSTM(UNITS)
    params = jax.tree.map(np.array, layer.init(jax.random.key(0), FEATURES))
    args = (params, np.ones((2, 3, FEATURES), np.float32), np.array([True, False] * 3).reshape(2, 3))
    copies = jax.tree.map(np.copy, args)
    layer.apply(args[0], args[1], mask=args[2])
    jax.tree.map(np.testing.assert_array_equal, args, copies)


@pytest.mark.parametrize("name", jlstm.__all__)
def test_public_names_exist_and_are_documented(name):
    """Every name of `__all__` exists and has a docstring."""
    assert getattr(jlstm, name).__doc__


def test_true_is_not_one():
    """`remat=True` and `remat=1` are different programs, so that `jit` must not take the layers for the same."""
    assert LSTM(UNITS, remat=True) == LSTM(UNITS, remat="sqrt") != LSTM(UNITS, remat=1)
    assert LSTM(UNITS, unroll=True) == LSTM(UNITS, unroll="all") != LSTM(UNITS, unroll=1) == LSTM(UNITS, unroll=False)
    for options in ({"remat": "all"}, {"unroll": "sqrt"}, {"remat": 0}, {"unroll": -1}):
        with pytest.raises(ValueError, match="must be a whole number of at least 1"):
            LSTM(UNITS, **options)


def test_only_what_differs_is_printed():
    """`repr` shows only options that are not defaults, so that messages stay short."""
    assert repr(LSTM(UNITS)) == f"RNN(cell=LSTMCell(units={UNITS}))"
    layer = jlstm.Stack((jlstm.Bidirectional(LSTM(4, dropout=0.2), "sum"), LSTM(np.int64(5), dtype="bfloat16")))
    inner = "Bidirectional(layer=RNN(cell=LSTMCell(units=4, dropout=0.2)), merge='sum')"
    assert repr(layer) == f"Stack(layers=({inner}, RNN(cell=LSTMCell(units=5), dtype='bfloat16')))"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scalars_of_numpy_promote_nothing(dtype):
    """Options given as NumPy scalars are Python's numbers: a 16-bit run with dropout and forget bias stays in 16 bits."""
    layer = LSTM(
        UNITS, dropout=np.float64(0.5), recurrent_dropout=np.float32(0.5), forget_bias=np.float64(0.5), param_dtype=dtype
    )
    assert layer == LSTM(UNITS, dropout=0.5, recurrent_dropout=0.5, forget_bias=0.5, param_dtype=dtype)

    @jax.jit
    def run(key):
        params = layer.init(key, FEATURES)
        return params, *layer.apply(params, np.ones((2, 5, FEATURES), dtype), key=key)

    params, carry, ys = run(jax.random.key(0))
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, carry, ys))} == {dtype}


def test_checks_do_not_depend_on_what_ran_before():
    """A layer with float64 parameters runs on float32 ones whether or not x64 was ever on."""
    layer = LSTM(UNITS, param_dtype="float64", dtype="float32")
    params = LSTM(UNITS).init(jax.random.key(0), FEATURES)
    assert layer.apply(params, np.ones((2, 5, FEATURES), np.float32))[1].dtype == np.float32


def test_parameters_of_several_dtypes_take_a_carry():
    """Mixed parameters are cast to the compute dtype, with a given carry as without."""
    params = LSTM(UNITS).init(jax.random.key(0), FEATURES)
    params["kernel"] = params["kernel"].astype("bfloat16")
    xs, layer = np.ones((2, 5, FEATURES), np.float32), LSTM(UNITS)
    carry = layer.initial_carry(params, (2,), xs.dtype)
    jax.tree.map(np.testing.assert_array_equal, layer.apply(params, xs, carry), layer.apply(params, xs))
