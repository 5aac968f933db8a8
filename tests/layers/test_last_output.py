"""last_output: the output of the last step that counts."""

import jax
import numpy as np
import pytest

from jlstm import GRU, LSTM, RNN, Bidirectional, Stack, convert
from jlstm.cells import LSTMCell, MLSTMCell, Residual
from problems import FEATURES, TIME, UNITS, apply, small_problem

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("x64")]

LENGTHS = np.array([3, TIME])


def at_its_end(layer, ys, lengths):
    """Return the output of a layer of one direction at the step that it runs last."""
    steps = np.zeros_like(lengths) if layer.reverse else lengths - 1
    return np.asarray(ys)[np.arange(len(lengths)), steps]


@pytest.mark.parametrize("layer", [LSTM(UNITS), LSTM(UNITS, reverse=True), GRU(UNITS), LSTM(UNITS, projection=2)], ids=repr)
def test_it_is_the_output_at_the_end_of_a_sequence(layer):
    """A forward layer ends at the last step that counts, a backward layer at the first."""
    _, params, xs, carry = small_problem(layer)
    last, ys = apply(layer, params, xs, carry, lengths=LENGTHS)
    np.testing.assert_array_equal(layer.last_output(last), at_its_end(layer, ys, LENGTHS))


@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave", None])
def test_both_directions_are_merged_at_their_ends(merge):
    """The forward layer ends at its last step, the backward layer at its first. NumPy merges both."""
    layer, params, xs, carry = small_problem(Stack((LSTM(UNITS), Bidirectional(LSTM(6), merge))))
    last, _ = apply(layer, params, xs, carry, lengths=LENGTHS)
    unmerged = Stack((LSTM(UNITS), Bidirectional(LSTM(6), None)))
    ys = apply(unmerged, params, xs, carry, lengths=LENGTHS)[1]
    forward, backward = at_its_end(LSTM(6), ys["forward"], LENGTHS), at_its_end(LSTM(6, reverse=True), ys["backward"], LENGTHS)
    expected = {
        "concat": np.concatenate([forward, backward], -1),
        "sum": forward + backward,
        "mul": forward * backward,
        "ave": (forward + backward) / 2,
        None: {"forward": forward, "backward": backward},
    }
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-15), layer.last_output(last), expected[merge])


def test_a_sequence_without_steps_has_what_it_starts_from():
    """Without a counted step the output is the initial h, or zero without a carry."""
    layer, params, xs, carry = small_problem(LSTM(UNITS))
    none = np.array([0, 2])
    np.testing.assert_array_equal(layer.last_output(apply(layer, params, xs, carry, lengths=none)[0])[0], carry.h[0])
    np.testing.assert_array_equal(layer.last_output(apply(layer, params, xs, lengths=none)[0])[0], 0)


def test_it_is_differentiable():
    """The gradient is that of the outputs at those steps."""
    layer, params, xs, carry = small_problem(Bidirectional(LSTM(UNITS), None))
    weights = np.random.default_rng(3).normal(size=(2, UNITS))

    def by_carry(params):
        last = layer.last_output(layer.apply(params, xs, carry, lengths=LENGTHS)[0])
        return (last["forward"] * weights).sum() + (last["backward"] * weights).sum()

    def by_outputs(params):
        ys = layer.apply(params, xs, carry, lengths=LENGTHS)[1]
        return (ys["forward"][np.arange(2), LENGTHS - 1] * weights).sum() + (ys["backward"][:, 0] * weights).sum()

    got, expected = jax.jit(jax.grad(by_carry))(params), jax.jit(jax.grad(by_outputs))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), got, expected)  # sums in another order


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_it_is_h_n_of_pytorch(layers, directions):
    """It equals h_n of PyTorch's packed sequences, forward beside backward."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(FEATURES, UNITS, layers, bidirectional=directions == 2, batch_first=True, dtype=torch.float64)
    layer, params = convert.torch.load(lstm.state_dict())
    xs = np.random.default_rng(0).normal(size=(2, TIME, FEATURES))
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(xs), torch.from_numpy(LENGTHS), batch_first=True, enforce_sorted=False
    )
    h_n = lstm(packed)[1][0].detach().numpy()
    expected = np.concatenate(list(h_n[-directions:]), axis=-1)
    last = layer.last_output(layer.apply(params, xs, lengths=LENGTHS)[0])
    np.testing.assert_allclose(last, expected, rtol=0, atol=1e-14)  # the same float64 formulas


@pytest.mark.xdist_group("tensorflow")
@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave", "none"])
def test_it_is_what_keras_returns_without_sequences(merge):
    """It equals Keras with `return_sequences=False` and a mask, for LSTM and Bidirectional."""
    from parity.peers.keras import keras

    def keras_layer():
        lstm = keras.layers.LSTM(UNITS, dtype="float64")
        return lstm if merge == "none" else keras.layers.Bidirectional(lstm, merge_mode=merge, dtype="float64")

    layer = LSTM(UNITS) if merge == "none" else Bidirectional(LSTM(UNITS), merge)
    _, params, xs, _ = small_problem(layer)
    mask = np.arange(TIME) < LENGTHS[:, None]
    theirs = keras_layer()
    theirs.build(xs.shape)
    directions = [params] if merge == "none" else [params["forward"], params["backward"]]
    theirs.set_weights([p[name] for p in directions for name in ("kernel", "recurrent_kernel", "bias")])
    last = layer.last_output(layer.apply(params, xs, mask=mask)[0])
    np.testing.assert_allclose(last, np.asarray(theirs(xs, mask=mask)), rtol=0, atol=1e-14)  # the same float64 formulas


STACK = Stack((LSTM(UNITS), LSTM(6)))
REFUSED = {
    "another cell's output": (lambda carry: RNN(Residual(LSTMCell(UNITS))).last_output(carry), r"is not an h that it carries"),
    "another size": (lambda carry: LSTM(5).last_output(carry), "got LSTMCarry: pass that"),
    "outputs": (lambda carry: LSTM(UNITS).last_output(carry.h), "carry must be what apply of this layer returned, got ArrayImpl"),
    "nothing": (lambda carry: LSTM(UNITS).last_output(None), "got NoneType: pass that"),
    "one layer's of a Stack": (lambda carry: STACK.last_output(carry), "got LSTMCarry: pass that"),
    "too few of a Stack": (
        lambda carry: STACK.last_output((carry,)),
        "must be a tuple of 2, .* got a tuple of 1: pass what apply",
    ),
    "one direction's": (
        lambda carry: Bidirectional(LSTM(UNITS)).last_output(carry),
        "must be a dict .* got LSTMCarry: pass what apply",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_carry_is_refused(name):
    """A carry of another structure is refused in one sentence."""
    call, sentence = REFUSED[name]
    layer = LSTM(UNITS)
    carry = layer.initial_carry(layer.init(jax.random.key(0), FEATURES), (2,))
    with pytest.raises(ValueError, match=sentence):
        call(carry)


@pytest.mark.parametrize(
    "lower", [RNN(Residual(LSTMCell(FEATURES))), RNN(MLSTMCell(UNITS))], ids=["no h of its own", "no h at all"]
)
def test_a_stack_needs_only_the_h_of_its_last_layer(lower):
    """The last output is that of the top layer, whatever the layers below it carry."""
    layer = Stack((lower, LSTM(6)))
    carry, ys = apply(*small_problem(layer)[:3])
    np.testing.assert_array_equal(layer.last_output(carry), ys[:, -1])
