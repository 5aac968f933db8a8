"""`RNN` and `Bidirectional` of `jlstm.compat.flax` have the results and gradients of Flax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from flax_models import OURS, pure, rnn, run
from jlstm.compat.flax import explain
from problems import BATCH, FEATURES, TIME, UNITS, assert_close, assert_equal

pytestmark = [pytest.mark.loose, pytest.mark.usefixtures("x64")]
XS = np.random.default_rng(3).normal(size=(BATCH, TIME, FEATURES))
LENGTHS = np.array([TIME, 2])
STATE = np.random.default_rng(4).normal(size=(2, BATCH, UNITS))
ROUNDING = 1e-12  # of float64, over a few steps
RELU = {"activation_fn": jax.nn.relu, "gate_fn": jax.nn.hard_sigmoid}

CASES = [  # modules, cell, its options, options of RNN, options of the call
    (linen, "OptimizedLSTMCell", {}, {}, {"seq_lengths": LENGTHS}),
    (linen, "LSTMCell", RELU, {"reverse": True}, {"initial_carry": tuple(STATE)}),
    (linen, "GRUCell", {}, {"reverse": True, "keep_order": True}, {"seq_lengths": LENGTHS, "initial_carry": STATE[0]}),
    (linen, "LSTMCell", {}, {"time_major": True, "unroll": 2}, {"seq_lengths": LENGTHS, "reverse": True}),
    (linen, "GRUCell", RELU, {"reverse": True}, {"reverse": False, "time_major": True, "keep_order": True}),
    (linen, "OptimizedLSTMCell", {"carry_init": jax.nn.initializers.normal()}, {}, {"init_key": jax.random.key(5)}),
    (nnx, "OptimizedLSTMCell", {}, {"reverse": True}, {"seq_lengths": LENGTHS, "initial_carry": tuple(STATE)}),
    (nnx, "LSTMCell", {}, {"time_major": True, "keep_order": True}, {"seq_lengths": LENGTHS, "reverse": True}),
    (nnx, "GRUCell", {}, {}, {"seq_lengths": LENGTHS}),
    (nnx, "GRUCell", RELU, {"reverse": True, "unroll": 2}, {"initial_carry": STATE[0]}),
    (nnx, "LSTMCell", {"carry_init": jax.nn.initializers.normal()}, {}, {}),
    (nnx, "OptimizedLSTMCell", {"dtype": jnp.float64}, {}, {}),
]


def without_padding(options, time_major):
    """Return a function that sets outputs of padding to zero, where Flax goes on after the last step that counts."""
    mask = np.arange(TIME) < options.get("seq_lengths", np.full(BATCH, TIME))[:, None]
    mask = (mask.T if time_major else mask)[..., None]
    return lambda results: (results[0], jnp.where(mask, results[1], 0))


@pytest.mark.filterwarnings("ignore:carry_init is provided in __init__")
@pytest.mark.table(quick=2)
@pytest.mark.parametrize(("modules", "cell", "cell_options", "options", "call"), CASES)
def test_results_and_gradients_are_those_of_flax(modules, cell, cell_options, options, call):
    """The last carry, the outputs and all gradients are equal in float64; outputs of padding are zero."""
    time_major = (options | call).get("time_major", False)
    arguments = {name: value for name, value in call.items() if name != "initial_carry"}
    xs = XS.swapaxes(0, 1) if time_major else XS
    runs = []
    for library in (modules, OURS[modules]):
        model = rnn(library, cell, cell_options, return_carry=True, **options)
        runs.append(run(model, xs, call.get("initial_carry"), keep=without_padding(arguments, time_major), **arguments))
    assert_close(runs[1], runs[0], ROUNDING)


@pytest.mark.parametrize("modules", [linen, nnx])
def test_bidirectional_is_that_of_flax(modules):
    """Both directions, their carries and gradients are equal, with lengths, for two kinds of cells."""
    first_carry = (tuple(STATE), STATE[0])
    runs = []
    for library in (modules, OURS[modules]):
        directions = [rnn(library, cell) for cell in ("LSTMCell", "GRUCell")]
        model = library.Bidirectional(*directions, merge_fn=jnp.multiply, return_carry=True)
        keep = without_padding({"seq_lengths": LENGTHS}, time_major=False)
        runs.append(run(model, XS, first_carry, keep=keep, seq_lengths=LENGTHS))
    assert_close(runs[1], runs[0], ROUNDING)


@pytest.mark.parametrize("modules", [linen, nnx])
def test_several_batch_axes_may_have_lengths(modules):
    """Results are those of one batch axis. Flax's own RNN fails here."""
    xs, lengths = np.tile(XS, (3, 1, 1, 1)), np.array([[5, 2], [0, 3], [1, 4]])
    model = rnn(OURS[modules], "LSTMCell", return_carry=True, reverse=True)
    params, call = pure(model, XS)
    call = jax.jit(call)
    one_by_one = [call(params, XS, seq_lengths=row) for row in lengths]
    together = call(params, xs, seq_lengths=lengths)
    assert_close(together, jax.tree.map(lambda *parts: jnp.stack(parts), *one_by_one), ROUNDING)
    with pytest.raises((ValueError, TypeError, IndexError)):
        pure(rnn(modules, "LSTMCell", return_carry=True), XS)[1](params, xs, seq_lengths=lengths)


CHANGED = [
    ("it is not an LSTMCell, OptimizedLSTMCell or GRUCell", linen, "SimpleCell", {}, {}),
    ("it computes in bfloat16 and its carry is float64", linen, "LSTMCell", {"dtype": jnp.bfloat16}, {}),
    ("an activation is a Flax module", linen, "GRUCell", {"activation_fn": linen.PReLU()}, {}),
    ("RNN has split_rngs=", linen, "LSTMCell", {}, {"split_rngs": {"params": False, "dropout": True}}),
    ("it is not an LSTMCell, OptimizedLSTMCell or GRUCell", nnx, "SimpleCell", {"dtype": jnp.float64}, {}),
    ("RNN has other state_axes", nnx, "LSTMCell", {}, {"state_axes": nnx.StateAxes({nnx.Param: None, ...: nnx.Carry})}),
]


@pytest.mark.table(quick=3)
@pytest.mark.parametrize(("reason", "modules", "cell", "cell_options", "options"), CHANGED)
def test_other_cells_are_run_by_flax(reason, modules, cell, cell_options, options):
    """What jlstm cannot run gives the bits of Flax, and `explain` names the reason."""
    models = [rnn(library, cell, cell_options, return_carry=True, **options) for library in (modules, OURS[modules])]
    (params, call), (_, our_call) = (pure(model, XS) for model in models)
    assert f"{cell} is run by flax; not by jlstm: {reason}" in str(explain(our_call, params, XS))
    assert_equal(jax.jit(our_call)(params, XS), jax.jit(call)(params, XS))


def test_layers_of_an_nnx_cell_may_be_replaced():
    """A cell with another layer, here LoRA, is run by Flax."""
    model = rnn(OURS[nnx], "LSTMCell")
    model.cell.ii = nnx.LoRALinear(FEATURES, UNITS, lora_rank=2, param_dtype=jnp.float64, use_bias=False, rngs=nnx.Rngs(0))
    assert "its layer ii was replaced or changed" in str(explain(model, XS))
    assert model(XS).shape == (BATCH, TIME, UNITS)


PADDED = [(modules, cell) for modules in (linen, nnx) for cell in ("OptimizedLSTMCell", "SimpleCell")]


@pytest.mark.table(quick=3)
@pytest.mark.parametrize(("modules", "cell"), PADDED)
@pytest.mark.parametrize("reverse", [False, True])
def test_padding_reaches_nothing(modules, cell, reverse):
    """Outputs of padding are zero, NaN in it reaches no gradient, and a sequence of length 0 keeps its initial carry."""
    lengths, carry = np.array([0, 3]), tuple(STATE) if cell == "OptimizedLSTMCell" else STATE[0]
    xs = np.where(np.arange(TIME)[:, None] < lengths[:, None, None], XS, np.nan)
    options = {"dtype": jnp.float64}  # the default of nnx.SimpleCell is float32
    model = rnn(OURS[modules], cell, options, return_carry=True, reverse=reverse)
    (last_carry, ys), (d_params, d_xs, _) = run(model, xs, carry, seq_lengths=lengths)
    assert_equal(jax.tree.map(lambda leaf: leaf[0], last_carry), jax.tree.map(lambda leaf: leaf[0], carry))
    assert not ys[0].any()
    assert not ys[1, 3:].any()
    assert not d_xs[0].any()
    assert not d_xs[1, 3:].any()
    assert ys[1, :3].all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(d_params))
    # The three steps alone, by Flax.
    params, call = pure(rnn(modules, cell, options, return_carry=True, reverse=reverse), XS)
    alone = jax.jit(call)(params, XS[1:, :3], initial_carry=jax.tree.map(lambda leaf: leaf[1:], carry))
    assert_close(jax.tree.map(lambda leaf: leaf[1:], (last_carry, ys[:, :3])), alone, ROUNDING)


def test_lengths_that_do_not_fit_are_refused():
    """Lengths beyond the steps, and several batch axes where Flax's own loop runs, are one sentence."""
    model = rnn(OURS[linen], "SimpleCell", return_carry=True)
    params, call = pure(model, XS)
    with pytest.raises(ValueError, match="lengths must lie between 0 and the 5 time steps of xs, got 6"):
        call(params, XS, seq_lengths=np.array([6, 1]))
    with pytest.raises(ValueError, match="needs at most one batch axis if Flax's own loop runs the cell, got 2: reshape them"):
        call(params, XS[None], seq_lengths=LENGTHS[None])


def test_explain_asks_for_a_model():
    """What cannot be called is refused in one sentence."""
    with pytest.raises(TypeError, match=r"model must be an nnx module or a function, got .*: pass model.apply of a linen"):
        explain({"params": 1}, XS)
