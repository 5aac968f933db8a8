"""What Flax's own tests check of its recurrent layers also holds for `jlstm.compat.flax`.

The tests are https://github.com/google/flax/blob/main/tests/linen/linen_recurrent_test.py and
https://github.com/google/flax/blob/main/tests/nnx/nn/recurrent_test.py. Inputs and results are theirs, but outputs of padding
are zero here. A loop over Flax's cell gives the expected numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm.compat.flax import linen as nn
from jlstm.compat.flax import nnx
from problems import assert_close

pytestmark = [pytest.mark.no_cover, pytest.mark.loose]
KEY = jax.random.key(0)
ONES = jnp.ones((3, 4, 5))  # (batch, time, features)
CELL = nn.LSTMCell(6)


def close(got, expected):
    assert_close(got, expected, atol=1e-6, rtol=1e-5)


def loop(variables, xs):
    """Run Flax's cell step by step; return the carries and outputs of all steps."""
    carry, steps = CELL.initialize_carry(KEY, xs[:, 0].shape), []
    for x in xs.swapaxes(0, 1):
        carry, y = CELL.apply({"params": variables["params"]["cell"]}, carry, x)
        steps.append((carry, y))
    return steps


@pytest.mark.table(quick=2)
@pytest.mark.parametrize(
    ("batch_shape", "options"),
    [((10,), {}), ((2, 3), {}), ((10,), {"unroll": 10}), ((10,), {"time_major": True})],
    ids=["plain", "batch axes", "unroll", "time-major"],
)
def test_shapes(batch_shape, options):
    """Outputs, carry and parameters have Flax's shapes, and the carry is not zero."""
    rnn = nn.RNN(nn.LSTMCell(15), return_carry=True, **options)
    xs = jnp.ones((40, *batch_shape, 5) if options.get("time_major") else (*batch_shape, 40, 5))
    (carry, ys), variables = rnn.init_with_output(KEY, xs)
    assert ys.shape == (*xs.shape[:-1], 15)
    assert [leaf.shape for leaf in carry] == [(*batch_shape, 15)] * 2
    assert all(np.abs(leaf).min() > 1e-8 for leaf in carry)
    for layer in variables["params"]["cell"].values():
        assert layer["kernel"].shape in ((5, 15), (15, 15))
        assert layer.get("bias", jnp.zeros(15)).shape == (15,)


def test_spatial_dimensions():
    """A ConvLSTMCell runs, by Flax's own loop."""
    (carry, ys), _ = nn.RNN(nn.ConvLSTMCell(3, (3, 3))).init_with_output(KEY, jnp.ones((2, 4, 6, 7, 5)), return_carry=True)
    assert ys.shape == (2, 4, 6, 7, 3)
    assert [leaf.shape for leaf in carry] == [(2, 6, 7, 3)] * 2


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"reverse": True, "keep_order": True}], ids=str)
def test_numerical_equivalence(options):
    """Outputs and the last carry are those of a loop over the cell, also in reverse."""
    xs = jax.random.normal(KEY, ONES.shape)
    (carry, ys), variables = nn.RNN(CELL, return_carry=True, **options).init_with_output(KEY, xs)
    steps = loop(variables, xs[:, ::-1] if options else xs)
    in_order = steps[::-1] if options.get("keep_order") else steps
    close((carry, ys), (steps[-1][0], jnp.stack([y for _, y in in_order], axis=1)))


def test_numerical_equivalence_with_lengths():
    """The carry is that of the last step that counts, as in Flax. Outputs of padding are zero, which they are not in Flax."""
    lengths = jax.random.randint(KEY, (3,), minval=1, maxval=5)
    (carry, ys), variables = nn.RNN(CELL, return_carry=True).init_with_output(KEY, ONES, seq_lengths=lengths)
    steps = loop(variables, ONES)
    mask = jnp.arange(4) < lengths[:, None]
    close(ys, jnp.where(mask[..., None], jnp.stack([y for _, y in steps], axis=1), 0))
    for k, length in enumerate(lengths):
        close([leaf[k] for leaf in carry], [leaf[k] for leaf in steps[int(length) - 1][0]])


def test_scans_of_users():
    """`nn.scan` and `jax.lax.scan` over the cell take the parameters of `RNN`, and give the same outputs."""
    ys, variables = nn.RNN(CELL).init_with_output(KEY, ONES)
    scanned = nn.scan(nn.LSTMCell, in_axes=1, out_axes=1, variable_broadcast="params", split_rngs={"params": False})(6)
    cell, carry = {"params": variables["params"]["cell"]}, CELL.initialize_carry(KEY, ONES[:, 0].shape)
    close(scanned.apply(cell, carry, ONES)[1], ys)
    close(jax.lax.scan(lambda carry, x: CELL.apply(cell, carry, x), carry, ONES.swapaxes(0, 1))[1], ys.swapaxes(0, 1))


def test_flip_sequences():
    """`flip_sequences` is Flax's: padding stays at the end."""
    flipped = nn.recurrent.flip_sequences(jnp.arange(10).reshape(2, 5), jnp.array([4, 2]), num_batch_dims=1, time_major=False)
    assert flipped[0, :4].tolist() == [3, 2, 1, 0]
    assert flipped[1, :2].tolist() == [6, 5]


def test_bidirectional():
    """Two directions concatenate, share a cell, merge by a function, and return both carries."""
    rnns = lambda: (nn.RNN(nn.LSTMCell(6)), nn.RNN(nn.LSTMCell(6)))
    assert nn.Bidirectional(*rnns()).init_with_output(KEY, ONES)[0].shape == (3, 4, 12)
    shared = nn.Bidirectional(nn.RNN(CELL), nn.RNN(CELL))
    ys, variables = shared.init_with_output(KEY, ONES)
    assert variables["params"].keys() == {"forward_rnn"}
    close(ys[:, :, 6:], ys[:, ::-1, :6])  # all inputs are ones
    summed = nn.Bidirectional(*rnns(), merge_fn=lambda x, y: x + y, return_carry=True)
    carries, ys = summed.init_with_output(KEY, ONES)[0]
    assert ys.shape == (3, 4, 6)
    assert jax.tree.map(jnp.shape, carries) == (((3, 6), (3, 6)), ((3, 6), (3, 6)))


@pytest.mark.table(quick=1)
@pytest.mark.parametrize("cell", [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell])
def test_nnx_rnn(cell):
    """An nnx RNN takes whole numbers as inputs, several batch sizes, an initial carry, lengths and `keep_order`."""
    rnn = nnx.RNN(cell(3, 4, rngs=nnx.Rngs(4)), return_carry=True)
    xs = jnp.array([[[1] * 3, [2] * 3, [3] * 3, [0] * 3, [0] * 3], [[k] * 3 for k in range(4, 9)]])
    carry, ys = rnn(xs, initial_carry=rnn.cell.initialize_carry((2, 3), nnx.Rngs(4)), seq_lengths=jnp.array([3, 5]))
    assert ys.shape == (2, 5, 4)
    assert {leaf.shape for leaf in jax.tree.leaves(carry)} == {(2, 4)}
    close(jax.tree.leaves(carry)[-1], jnp.stack([ys[0, 2], ys[1, 4]]))
    close(rnn(xs[:1, :3]), jax.tree.map(lambda leaf: leaf[:1], (carry, ys[:, :3])))
    assert rnn(xs.swapaxes(0, 1), time_major=True)[1].shape == (5, 2, 4)
    backward = [rnn(xs, reverse=True, keep_order=keep_order)[1] for keep_order in (False, True)]
    close(backward[0], backward[1][:, ::-1])


def test_nnx_equals_linen():
    """The same weights give the same outputs in linen and nnx."""
    xs = jax.random.normal(jax.random.key(42), (2, 5, 3))
    ys, variables = nn.RNN(nn.LSTMCell(4)).init_with_output(jax.random.key(1), xs)
    rnn = nnx.RNN(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)))
    weights = {("if_" if name == "if" else name): layer for name, layer in variables["params"]["cell"].items()}
    nnx.update(rnn.cell, weights)
    close(rnn(xs), ys)


def test_nnx_dtypes():
    """With inputs and parameters in float16, the outputs are in float16."""
    cell = nnx.LSTMCell(3, 4, dtype=jnp.float16, param_dtype=jnp.float16, rngs=nnx.Rngs(8))
    assert nnx.RNN(cell)(jnp.ones((2, 5, 3), jnp.float16)).dtype == jnp.float16


class Cell(nnx.Module):
    """A cell of a user, which only has the methods that `RNN` calls."""

    num_feature_axes = 1

    def __init__(self, rngs):
        self.dense = nnx.Linear(7, 4, rngs=rngs)

    def __call__(self, carry, x):
        carry = jax.nn.tanh(self.dense(jnp.concatenate([x, carry], axis=-1)))
        return carry, carry

    def initialize_carry(self, input_shape, rngs):
        return jnp.zeros((input_shape[0], 4))


class DropoutCell(nnx.OptimizedLSTMCell):
    """A subclass of Flax's cell, with recurrent dropout."""

    def __init__(self, rngs):
        super().__init__(3, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rng_collection="recurrent_dropout", rngs=rngs)

    def __call__(self, carry, x):
        carry, y = super().__call__(carry, x)
        return jax.tree.map(self.dropout, carry), y


def test_cells_of_users():
    """A cell of a user runs by Flax's own loop, and so does a subclass of Flax's cell, whose random stream is drawn from."""
    assert nnx.RNN(Cell(nnx.Rngs(7)))(jnp.ones((2, 5, 3))).shape == (2, 5, 4)
    rnn = nnx.RNN(DropoutCell(nnx.Rngs(0, recurrent_dropout=1)), broadcast_rngs="recurrent_dropout")
    assert rnn(jnp.ones((2, 5, 3))).shape == (2, 5, 4)
    assert rnn.cell.dropout.rngs.count[...] == 1
