"""Options, initial parameters and the memory of a cell with attention, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_cells import CELLS, INNER, LENGTHS, MASK, SIZE, SOURCE, problem
from jlstm import RNN
from jlstm._src.description import build, describe
from jlstm.attention import Attention, Memory, with_memory
from jlstm.cells import ConvLSTMCell, LSTMCarry
from problems import BATCH, FEATURES, TIME, UNITS, normal


@pytest.mark.parametrize("name", CELLS)
def test_shapes_and_dtypes(name):
    """Parameters have the documented shapes, a layer is described and built again, and bfloat16 stays bfloat16."""
    layer = RNN(CELLS[name], dtype="bfloat16")
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES))
    units, attention = CELLS[name].units or UNITS, CELLS[name].attention_features or SIZE
    expected = {"memory_kernel": (SIZE, units), "scale": (units,) if "additive" in name else ()}
    expected |= {"query_kernel": (UNITS, units)} if "additive" in name else {}
    expected |= {"attention_kernel": (UNITS + SIZE, attention)} if CELLS[name].attention_features else {}
    assert {key: leaf.shape for key, leaf in params.items() if key != "cell"} == expected
    assert params["cell"]["kernel"].shape == (FEATURES + attention, 4 * UNITS)
    assert layer.features_in(params) == FEATURES
    assert build(describe(layer)) == layer
    xs, memory = np.ones((BATCH, TIME, FEATURES), np.float32), np.ones((BATCH, SOURCE, SIZE), np.float32)
    shapes = jax.eval_shape(lambda params: layer.apply(with_memory(params, memory), xs), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("bfloat16")}


@pytest.mark.slow
def test_initial_scales():
    """The vector v is drawn as TensorFlow and Keras draw it, and the factor g starts at 1."""
    [of_vector, of_number] = (
        jax.jit(lambda cell: cell.init(jax.random.key(0), FEATURES), static_argnums=0)(cell)["scale"]
        for cell in (Attention(INNER, SIZE, units=300), CELLS["multiplicative"])
    )
    assert 0.9 < abs(of_vector).max() / np.sqrt(3 / 300) <= 1
    assert of_number == 1


def test_what_is_bound_is_a_plain_tree():
    """The parameters with memory keep their arrays, and padding of the memory is zero."""
    _, params, memory, *_ = problem(CELLS["additive"])
    bound = with_memory(params, memory, lengths=LENGTHS)
    assert bound.keys() - params.keys() == {"memory"}
    assert isinstance(bound["memory"], Memory)
    np.testing.assert_array_equal(bound["memory"].mask, MASK)
    np.testing.assert_array_equal(bound["memory"].values[1, 3:], 0)
    assert "memory" not in params


BAD_OPTIONS = [
    ({"score": "dot"}, "score must be one of 'additive', 'multiplicative', got 'dot'"),
    ({"score": "multiplicative", "units": 3}, "units is for the additive score, got score='multiplicative': leave it out"),
    ({"scaled": True}, "scaled is for the multiplicative score"),
    ({"activation": "tanh"}, "activation is for an attention vector of its own size"),
    ({"attention_features": 0}, "attention_features must be a whole number of at least 1"),
    ({"memory_features": None}, "memory_features must be a whole number of at least 1"),
    ({"cell": ConvLSTMCell(2, 3, spatial=(4,))}, "Attention is for a cell without spatial axes"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_options_that_make_no_sense_are_one_sentence(options, message):
    """Options are checked when the cell is made."""
    with pytest.raises(ValueError, match=message):
        Attention(**({"cell": INNER, "memory_features": SIZE} | options))


def test_a_memory_that_does_not_fit_is_one_sentence():
    """A missing memory, other batch axes, another size, and parameters of another layer are refused."""
    layer = RNN(CELLS["additive"])
    params = normal(
        jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES)), rng=np.random.default_rng(0), dtype=np.float32
    )
    xs = np.ones((BATCH, TIME, FEATURES), np.float32)
    memory = np.ones((BATCH, SOURCE, SIZE), np.float32)
    for call, error, message in (
        (lambda: layer.apply(params, xs), ValueError, "params of an Attention cell must have a memory, got none"),
        (lambda: layer.initial_carry(params, (2,)), ValueError, "must have a memory, got none: pass attention.with_memory"),
        (lambda: layer.apply(with_memory(params, memory), xs[:1]), ValueError, r"memory must have the batch axes \(1,\)"),
        (lambda: layer.apply(with_memory(params, memory), xs[0]), ValueError, r"memory must have the batch axes \(\) of"),
        (
            lambda: with_memory(params, memory[..., 1:]),
            ValueError,
            "memory must have 5 features, the memory_features of the cell",
        ),
        (lambda: with_memory(params, memory.astype(int)), TypeError, "memory must be floating"),
        (
            lambda: with_memory(params["cell"], memory),
            TypeError,
            "params must be those of an Attention cell, with a memory_kernel",
        ),
        (lambda: with_memory((params,), memory), TypeError, "got tuple: pass the part of its layer"),
        (lambda: with_memory(params, memory, lengths=[8, 0]), ValueError, "between 0 and the 7 time steps of memory, got 8"),
        (lambda: layer.last_output(layer.apply(with_memory(params, memory), xs)[0]), ValueError, "is not an h that it carries"),
        (lambda: layer.apply(with_memory(params, memory), xs, LSTMCarry(1.0, 1.0)), ValueError, "carry must be AttentionCarry"),
        (lambda: layer.apply(with_memory(params, memory) | {"extra": memory}, xs), ValueError, "extra'] is not part of"),
    ):
        with pytest.raises(error, match=message):
            jax.eval_shape(call)
