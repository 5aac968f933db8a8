"""A cell with attention, against the textbook and a loop of Keras's layers, and what every cell does."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from attention_cells import CELLS, EVERYTHING, INNER, LENGTHS, MASK, NEVER, SIZE, SOURCE, problem
from jlstm import RNN, GRUCell, Stack
from jlstm.attention import Attention, AttentionCarry, with_memory
from jlstm.cells import Dropout, LearnedCarry, Residual
from parity.textbook import attention as textbook
from parity.textbook import lstm
from problems import BATCH, FEATURES, TIME, UNITS, assert_close, normal
from tensorflow_modules import keras, tf

pytestmark = pytest.mark.xdist_group("tensorflow")

every = pytest.mark.parametrize("name", CELLS)


@partial(jax.jit, static_argnums=0)
def run(layer, params, memory, xs, carry, source_mask, **sequence):
    """Return the last carry, the outputs, and the weights of all steps."""
    bound = with_memory(params, memory, mask=source_mask)
    last, ys = layer.apply(bound, xs, carry, **sequence)
    return last, ys, jlstm.cell_states(layer, bound, xs, carry, **sequence)[1].weights


@partial(jax.jit, static_argnums=0)
def differentiate(layer, cotangent, params, memory, xs, carry, source_mask):
    """Return the last carry and the outputs, and the gradients of parameters, memory, inputs and carry."""
    function = lambda params, memory, *rest: layer.apply(with_memory(params, memory, mask=source_mask), *rest)
    out, pullback = jax.vjp(function, params, memory, xs, carry)
    return out, pullback(cotangent)


@pytest.mark.table(quick=1)
@every
def test_outputs_carry_and_weights_equal_the_textbook(name, x64):
    """All steps of a decoder with input feeding, on a memory whose second half is padding in one sequence."""
    layer, params, memory, xs, carry = problem(CELLS[name])
    last, ys, weights = run(layer, params, memory, xs, carry, MASK, mask=EVERYTHING, resets=NEVER)
    expected_last, expected_ys, expected_weights = textbook.run(CELLS[name], params, memory, MASK, xs, carry, lstm)
    assert_close(last, AttentionCarry(*expected_last), atol=1e-13)
    np.testing.assert_allclose(ys, expected_ys, atol=1e-13)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-13)


def keras_loop(cell, params, memory, xs, carry, mask):
    """Run the equations of TensorFlow's AttentionWrapper with Keras's layers. Return the last carry and the outputs.

    cell_inputs = concat[inputs, attention], cell_output = cell(cell_inputs), and
    attention = attention_layer(concat[cell_output, context]), as in
    https://www.tensorflow.org/addons/api_docs/python/tfa/seq2seq/AttentionWrapper.
    """
    inner = keras.layers.LSTMCell(cell.cell.units, dtype="float64")
    inner.build((None, params["cell"]["kernel"].shape[0]))
    for variable, name in zip(inner.trainable_weights, ("kernel", "recurrent_kernel", "bias"), strict=True):
        variable.assign(params["cell"][name])
    kind = keras.layers.AdditiveAttention if cell.score == "additive" else keras.layers.Attention
    attend = kind(use_scale="scale" in params, dtype="float64")
    (h, c), attention, weights = carry
    keys = memory @ params["memory_kernel"]
    ys = []
    weights_of_layers = [inner.trainable_weights]
    for t in range(xs.shape[1]):
        y, (h, c) = inner(tf.concat([xs[:, t], attention], -1), [h, c])
        query = (y @ params["query_kernel"] if "query_kernel" in params else y)[:, None]
        if t == 0:
            attend.build([query.shape, memory.shape, keys.shape])
            if "scale" in params:
                attend.set_weights([params["scale"].numpy()])
            weights_of_layers.append(attend.trainable_weights)
        context, weights = attend([query, memory, keys], mask=[None, mask], return_attention_scores=True)
        attention, weights = context[:, 0], weights[:, 0]
        if "attention_kernel" in params:
            attention = tf.concat([y, attention], -1) @ params["attention_kernel"]
            attention = tf.tanh(attention) if cell.activation == "tanh" else attention
        ys.append(attention if cell.output_attention else y)
    return ((h, c), attention, weights), tf.stack(ys, 1), weights_of_layers


@pytest.mark.table(quick=1)
@every
def test_values_and_gradients_equal_a_loop_of_keras_layers(name, x64):
    """Keras's LSTMCell and attention layers, run by the equations of TensorFlow's AttentionWrapper, agree in float64."""
    layer, params, memory, xs, carry = problem(CELLS[name])
    shapes = jax.eval_shape(lambda: layer.apply(with_memory(params, memory), xs, carry))
    cotangent = normal(shapes, rng=np.random.default_rng(1))
    (last, ys), (of_params, *of_rest) = differentiate(layer, cotangent, params, memory, xs, carry, MASK)
    tensors = jax.tree.map(tf.constant, (params, memory, xs, tuple(map(tuple, carry[:1])) + carry[1:]))
    with tf.GradientTape() as tape:
        tape.watch(jax.tree.leaves(tensors))
        theirs, their_ys, (inner, scale) = keras_loop(CELLS[name], *tensors, tf.constant(MASK))
    results = [*theirs[0], *theirs[1:], their_ys]
    own_names = [key for key in params if key not in ("cell", "scale")]
    wanted = [
        *inner,
        *scale,
        *(tensors[0][key] for key in own_names),
        *jax.tree.leaves(tensors[1:3]),
        *tensors[3][0],
        tensors[3][1],
    ]
    gradients = tape.gradient(results, wanted, jax.tree.leaves(cotangent))
    ours = [*(of_params["cell"][key] for key in ("kernel", "recurrent_kernel", "bias")), *[of_params["scale"]] * len(scale)]
    ours += [*(of_params[key] for key in own_names), *of_rest[:2], *of_rest[2].cell, of_rest[2].attention]
    # float64 rounding over five steps
    assert_close(jax.tree.leaves((last, ys)), [np.asarray(value) for value in results], atol=1e-12)
    assert_close(ours, [np.asarray(value) for value in gradients], atol=1e-12, rtol=1e-12)
    np.testing.assert_array_equal(of_rest[2].weights, 0)  # the carried weights are only for the caller


@pytest.mark.table(quick=1)
@every
def test_a_memory_without_positions_is_as_none(name, x64):
    """With length 0 the context is zero: the cell then equals one whose memory is all zeros. Nothing is NaN."""
    layer, params, memory, xs, carry = problem(CELLS[name])
    empty, zeros = np.zeros((BATCH, SOURCE), bool), np.zeros_like(memory)
    cotangent = jax.tree.map(np.ones_like, (carry, np.empty((BATCH, TIME, layer.features_out))))
    (last, ys), gradients = differentiate(layer, cotangent, params, np.full_like(memory, np.nan), xs, carry, empty)
    (_, of_zeros), _ = differentiate(layer, cotangent, params, zeros, xs, carry, np.ones((BATCH, SOURCE), bool))
    np.testing.assert_allclose(ys, of_zeros, atol=1e-14)
    np.testing.assert_array_equal(last.weights, 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    np.testing.assert_array_equal(gradients[1], 0)


def test_masks_resets_and_single_steps(x64):
    """Padding of the decoder keeps the carry, a reset starts anew, and step by step gives the same as the sequence."""
    layer, params, memory, xs, carry = problem(CELLS["additive, attention layer"])
    bound = with_memory(params, memory, mask=MASK)
    step = jax.jit(lambda carry, x: layer.step(bound, carry, x))
    carries, ys, state = [], [], carry
    for t in range(TIME):
        state, y = step(state, xs[:, t])
        carries.append(state)
        ys.append(y)
    ys = np.stack(ys, 1)
    whole = run(layer, params, memory, xs, carry, MASK, mask=EVERYTHING, resets=NEVER)
    assert_close(whole[:2], (carries[-1], ys), atol=1e-13)
    short = np.arange(TIME) < np.array([[3], [0]])
    padded = np.where(short[..., None], xs, np.nan)
    last, masked_ys, _ = run(layer, params, memory, padded, carry, MASK, mask=short, resets=NEVER)
    np.testing.assert_allclose(masked_ys, np.where(short[..., None], ys, 0), atol=1e-13)
    expected = jax.tree.map(lambda three, none: np.stack([three[0], none[1]]), carries[2], carry)
    assert_close(last, expected, atol=1e-13)
    resets = np.arange(TIME) == np.full((BATCH, 1), 2)
    _, reset_ys, _ = run(layer, params, memory, xs, carry, MASK, mask=EVERYTHING, resets=resets)
    anew, first = layer.initial_carry(bound, (BATCH,), "float64"), []
    for t in range(2, TIME):
        anew, y = step(anew, xs[:, t])
        first.append(y)
    np.testing.assert_allclose(reset_ys, np.concatenate([ys[:, :2], np.stack(first, 1)], 1), atol=1e-13)


def test_loops_of_every_kind_agree(x64):
    """`vmap`, more batch axes, a shared memory, chunks, both directions and a stack give what one sequence gives."""
    cell = CELLS["multiplicative"]
    layer, params, memory, xs, _ = problem(cell, batch=6)
    flip = lambda ys: ys[..., ::-1, :]
    apply = lambda layer, memory, xs: layer.apply(with_memory(params, memory), xs)[1]

    @jax.jit
    def outputs(memory, xs):
        batched, nested = apply(layer, memory, xs), (memory.reshape(2, 3, SOURCE, SIZE), xs.reshape(2, 3, TIME, FEATURES))
        shared = {
            "missing axis": (apply(layer, memory[0], xs), memory[:1]),
            "axis of size 1": (
                apply(layer, nested[0][:, :1], nested[1]).reshape(batched.shape),
                np.repeat(np.asarray([0, 3]), 3),
            ),
        }
        same = {
            "vmap": jax.vmap(partial(apply, layer))(memory, xs),
            "nested": apply(layer, *nested).reshape(batched.shape),
            "chunks": apply(RNN(cell, remat=2), memory, xs),
            "backwards": flip(apply(RNN(cell, reverse=True), memory, flip(xs))),
            "time first": apply(RNN(cell, time_major=True), memory, xs.swapaxes(0, 1)).swapaxes(0, 1),
        }
        repeated = {
            "missing axis": apply(layer, jnp.repeat(memory[:1], 6, axis=0), xs),
            "axis of size 1": apply(layer, memory[shared["axis of size 1"][1]], xs),
        }
        return batched, same, {name: pair[0] for name, pair in shared.items()}, repeated

    batched, same, shared, repeated = outputs(memory, xs)
    for name, ys in same.items():
        np.testing.assert_allclose(ys, batched, atol=1e-13, err_msg=name)
    for name, ys in shared.items():
        np.testing.assert_allclose(ys, repeated[name], atol=1e-13, err_msg=name)


@pytest.mark.slow
def test_masks_of_each_step_reach_the_inner_cell(x64):
    """Dropout inside scales the input together with the attention vector, by the mask of each step."""
    cell = Attention(Dropout(INNER, inputs=0.5), SIZE)
    layer, params, memory, xs, carry = problem(cell)
    bound = with_memory(params, memory)
    factors = np.full((TIME, BATCH, FEATURES + SIZE), 2.0)
    twice = params["cell"] | {"kernel": 2 * params["cell"]["kernel"]}

    @jax.jit
    def results(key):
        masked = layer.apply(bound, xs, carry, dropout_masks={"cell": {"inputs": factors}})
        doubled = RNN(Attention(INNER, SIZE)).apply(bound | {"cell": twice}, xs, carry)
        return masked, doubled, layer.apply(bound, xs, key=key)[1]

    (masked, doubled, first), (*_, second) = (results(jax.random.key(k)) for k in (0, 1))
    assert_close(masked, doubled, atol=1e-13)
    assert layer.stochastic
    assert (first != second).any()


@pytest.mark.slow
def test_wrappers_stacks_and_carries_combine(x64):
    """A learned carry inside, a residual connection around, and a stack with the memory in the second layer."""
    layer = Stack((RNN(GRUCell(SIZE)), RNN(Residual(Attention(LearnedCarry(INNER), SIZE)))))
    params = normal(jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES)), rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    xs, memory = rng.normal(size=(BATCH, TIME, FEATURES)), rng.normal(size=(BATCH, SOURCE, SIZE))
    bound = (params[0], with_memory(params[1], memory))
    start = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (BATCH, UNITS)), params[1]["cell"]["carry"])
    inner = RNN(Attention(INNER, SIZE))
    plain = with_memory(params[1] | {"cell": params[1]["cell"]["cell"]}, memory)

    @jax.jit
    def results():
        first = RNN(GRUCell(SIZE)).apply(params[0], xs)[1]
        carry = inner.initial_carry(plain, (BATCH,), "float64")._replace(cell=start)
        return layer.apply(bound, xs)[1], inner.apply(plain, first, carry)[1] + first

    np.testing.assert_allclose(*results(), atol=1e-13)
    assert layer.layers[1].features_in(params[1]) == SIZE


@pytest.mark.slow
def test_gates_are_those_of_the_inner_cell(x64):
    """A trace has the gates of the LSTM, which add up to its next c, and the weights of each step."""
    layer, params, memory, xs, _ = problem(CELLS["additive"])
    bound = with_memory(params, memory, lengths=LENGTHS)
    traced = jax.jit(partial(jlstm.introspect.trace, layer))(bound, xs)
    before = np.pad(traced.cell.c, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    np.testing.assert_allclose(traced.cell.c, traced.f * before + traced.i * traced.g, atol=1e-13)
    np.testing.assert_allclose(traced.weights.sum(-1), 1, atol=1e-13)
    assert "is run by scan; not by" in str(jlstm.explain(layer, bound, xs))
