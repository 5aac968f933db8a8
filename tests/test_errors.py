"""Bad input is refused at the public edge, in one sentence that says what came and what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from jlstm import GRU, LSTM, RNN, Bidirectional, LSTMCarry, LSTMCell, Stack

LAYER = LSTM(4)
PARAMS = LAYER.init(jax.random.key(0), features=3)
XS = np.ones((2, 5, 3), np.float32)
CARRY = LAYER.initial_carry(PARAMS, (2,))
BIDIRECTIONAL, STACK = Bidirectional(LAYER), Stack((LAYER, LSTM(6)))
MASK = np.ones((2, 5), bool)


def apply(layer=LAYER, params=PARAMS, xs=XS, carry=None, **sequence):
    if params is None:
        params = layer.init(jax.random.key(0), features=3)
    return layer.apply(params, xs, carry, **sequence)


CASES = {
    # kinds of things
    "lengths for a carry": (
        lambda: LAYER.apply(PARAMS, XS, np.array([5, 2])),
        "got an array of shape (2,): pass lengths by name",
    ),
    "a misspelled option": (lambda: LSTM(4, dropuot=0.2), "LSTM has no option 'dropuot', perhaps 'dropout'"),
    "cell for a layer": (lambda: jlstm.cell_states(LSTMCell(4), PARAMS, XS), "layer must be a Layer such as LSTM(units)"),
    "text for a rate": (lambda: LSTM(4, dropout="a"), "dropout must be a number, got 'a'"),
    "text for a forget bias": (lambda: LSTM(4, forget_bias="a"), "forget_bias must be a number, got 'a'"),
    "text for a flag": (lambda: LSTM(4, use_bias="no"), "use_bias must be True or False, got 'no'"),
    "None for a flag": (lambda: LSTM(4, time_major=None), "time_major must be True or False, got None"),
    "list for an activation": (lambda: LSTM(4, activation=["tanh"]), "unknown activation ['tanh']"),
    "empty name": (lambda: LSTM(4, output_activation=""), "unknown activation ''"),
    "list for an initializer": (lambda: LSTM(4, kernel_init=[1]), "unknown initializer [1]"),
    "text for unroll": (lambda: LSTM(4, unroll="x"), "unroll must be a whole number of at least 1 or 'all', got 'x'"),
    "no param_dtype": (lambda: LSTM(4, param_dtype=None), "param_dtype must be a floating dtype"),
    "complex inputs": (lambda: apply(xs=XS.astype(complex)), "pass real numbers or cast"),
    "integer params": (
        lambda: apply(params=jax.tree.map(lambda leaf: leaf.astype(int), PARAMS)),
        "params['bias'] must be floating, got int32",
    ),
    # inputs
    "one axis": (lambda: apply(xs=XS[0, 0]), "xs must have at least the axes (time, features), got shape (3,)"),
    "integers": (lambda: apply(xs=XS.astype(int)), "embed token indices or cast with xs.astype('float32')"),
    "features": (lambda: apply(xs=XS[..., :2]), "params['kernel'] must have shape (2, 16), got (3, 16)"),
    "features in a step": (lambda: LAYER.step(PARAMS, CARRY, XS[:, 0, :2]), "or x with as many features as they have"),
    "scalar step": (lambda: LAYER.step(PARAMS, None, np.float32(1)), "x must have at least the axes (features), got shape ()"),
    # parameters
    "no params": (lambda: LAYER.apply(None, XS), "params['bias'] is missing, expected shape (16,)"),
    "another size": (lambda: apply(params=LSTM(5).init(jax.random.key(0), 3)), "must have shape (16,), got (20,)"),
    "a missing bias": (lambda: apply(params={k: PARAMS[k] for k in ("kernel", "recurrent_kernel")}), "params['bias'] is missing"),
    "a bias too many": (lambda: apply(LSTM(4, use_bias=False)), "params['bias'] is not part of what is expected"),
    "params of a Stack": (lambda: apply(params=(PARAMS,)), "pass what init(key, features=3) of this layer returns"),
    "params for a Stack": (lambda: apply(STACK), "params[0]['bias'] is missing"),
    "a Stack cut short": (lambda: apply(STACK, (PARAMS,)), "params[1]['bias'] is missing"),
    "a list for a tuple": (lambda: apply(Stack((LAYER,)), [PARAMS]), "params must have the structure"),
    # carry
    "batch of the carry": (lambda: apply(carry=LAYER.initial_carry(PARAMS, (3,))), "carry.h must have shape (2, 4), got (3, 4)"),
    "carry in a step": (lambda: LAYER.step(PARAMS, CARRY, XS[0, 0]), "pass initial_carry(params, ())"),
    "a tuple for a carry": (lambda: apply(carry=tuple(CARRY)), "carry must be LSTMCarry(h, c), got (an array of shape"),
    "a tuple to wrap": (lambda: apply(carry=tuple(CARRY)), "wrap them, jlstm.LSTMCarry(h, c)"),
    "a list to wrap": (lambda: apply(carry=list(CARRY)), "wrap them, jlstm.LSTMCarry(h, c)"),
    "a tuple to wrap in a step": (lambda: LAYER.step(PARAMS, tuple(CARRY), XS[:, 0]), "wrap them, jlstm.LSTMCarry(h, c)"),
    "a state of a GRU": (
        lambda: apply(GRU(4), None, carry=CARRY.h),
        "carry must be HiddenCarry(h), got an array of shape (2, 4): wrap",
    ),
    "a state of a GRU to wrap": (lambda: apply(GRU(4), None, carry=CARRY.h), "wrap it, jlstm.cells.HiddenCarry(h)"),
    "a tuple for a GRU": (lambda: apply(GRU(4), None, carry=(CARRY.h,)), "wrap them, jlstm.cells.HiddenCarry(h)"),
    "an LSTM's carry for a GRU": (
        lambda: apply(GRU(4), None, carry=CARRY),
        "must be HiddenCarry(h), got LSTMCarry(h, c): pass initial_carry",
    ),
    "states of PyTorch": (
        lambda: apply(carry=LSTMCarry(*(leaf[None] for leaf in CARRY))),
        "carry.h must have shape (2, 4), got (1, 2, 4): pass initial_carry(params, (2,)) or what apply returned for such a batch"
        "; PyTorch's have an axis of layers and directions first",
    ),
    "half a carry": (lambda: apply(carry=CARRY._replace(c=None)), "carry must be LSTMCarry(h, c), got LSTMCarry(h, c=None)"),
    "carry for both": (
        lambda: apply(BIDIRECTIONAL, None, carry=CARRY),
        "carry must be {'backward': LSTMCarry(h, c), 'forward': LSTMCarry(h, c)}",
    ),
    "carry for a Stack": (
        lambda: apply(STACK, None, carry=CARRY),
        "carry must be (LSTMCarry(h, c), LSTMCarry(h, c)), got LSTMCarry(h, c): pass",
    ),
    "text for a carry": (lambda: apply(carry="h"), "carry must be LSTMCarry(h, c), got str: pass initial_carry"),
    # lengths
    "too long": (lambda: apply(lengths=[6, 1]), "lengths must lie between 0 and the 5 time steps of xs, got 6"),
    "negative": (lambda: apply(lengths=np.array([3, -1])), "got -1"),
    "too long, compiled": (lambda: jax.jit(lambda xs: apply(xs=xs, lengths=np.array([6, 1])))(XS), "got 6"),
    "too long, array": (lambda: apply(lengths=jnp.array([5, 7])), "got 7"),
    "a length for each of three": (
        lambda: apply(lengths=[1, 2, 3]),
        "lengths must have shape (2,), one for each sequence, got (3,)",
    ),
    "one length": (lambda: apply(lengths=3), "lengths must have shape (2,)"),
    "fractions": (
        lambda: apply(lengths=np.array([1.0, 2.0], np.float32)),
        "got float32: cast them with lengths.astype('int32')",
    ),
    # mask and resets
    "mask of numbers": (lambda: apply(mask=MASK.astype(int)), "pass mask.astype(bool)"),
    "mask of another time": (
        lambda: apply(mask=MASK[:, :4]),
        "mask must have shape (2, 5), that of xs without its features, got (2, 4)",
    ),
    "mask of one sequence": (lambda: apply(mask=MASK[0]), "mask must have shape (2, 5)"),
    "mask time-major": (lambda: apply(mask=MASK.T), "got (5, 2)"),
    "resets of numbers": (lambda: apply(resets=MASK.astype(np.float32)), "resets must be boolean, got float32"),
    "resets of another time": (lambda: apply(resets=MASK[:, :4]), "resets must have shape (2, 5)"),
    "mask and lengths": (lambda: apply(mask=MASK, lengths=[1, 2]), "lengths and mask are both given, expected at most one"),
    # dropout
    "key and dropout masks": (
        lambda: apply(key=jax.random.key(0), dropout_masks={}),
        "key and dropout_masks are both given, expected at most one",
    ),
    "name of dropout masks": (
        lambda: apply(dropout_masks={"outputs": XS}),
        "a key of dropout_masks must be one of 'inputs', 'recurrent', got 'outputs'",
    ),
    "shape of dropout masks": (
        lambda: apply(dropout_masks={"inputs": XS}),
        "dropout_masks['inputs'] must have shape (4, 2, 3) or (1, 2, 3), got (2, 5, 3)",
    ),
    "dropout masks as an array": (
        lambda: apply(dropout_masks=XS),
        "dropout_masks must be a dict with some of 'inputs', 'recurrent', got ndarray",
    ),
    "dropout masks for both": (
        lambda: apply(BIDIRECTIONAL, None, dropout_masks={"inputs": XS}),
        "dropout_masks must be a dict with 'forward' and 'backward'",
    ),
    "dropout masks for a Stack": (lambda: apply(STACK, None, dropout_masks={"inputs": XS}), "dropout_masks must be a tuple of 2"),
    "dropout masks for one layer": (lambda: apply(STACK, None, dropout_masks=({},)), "dropout_masks must be a tuple of 2"),
    # dtypes
    "float64": (lambda: apply(LSTM(4, dtype="float64")), "call jax.config.update('jax_enable_x64', True) first"),
    "float64 params": (lambda: LSTM(4, param_dtype="float64").init(jax.random.key(0), 3), "param_dtype is float64 but JAX"),
    "float64 carry": (lambda: LAYER.initial_carry(PARAMS, (2,), "float64"), "dtype is float64 but JAX"),
    "float64 step": (lambda: LSTM(4, dtype="float64").step(PARAMS, None, XS[:, 0]), "dtype is float64 but JAX"),
    "integer dtype": (
        lambda: LSTM(4, dtype="int32"),
        "dtype must be a floating dtype such as 'float32' or 'bfloat16', got 'int32'",
    ),
    "unknown dtype": (lambda: LSTM(4, param_dtype="float33"), "param_dtype must be a floating dtype"),
    # options
    "no units": (lambda: LSTM(0), "units must be a whole number of at least 1, got 0"),
    "negative units": (lambda: LSTMCell(-4), "units must be a whole number of at least 1, got -4"),
    "half a unit": (lambda: LSTM(1.5), "got 1.5"),
    "true units": (lambda: LSTM(True), "got True"),
    "no features": (lambda: LAYER.init(jax.random.key(0), 0), "features must be a whole number of at least 1, got 0"),
    "rate of one": (lambda: LSTM(4, dropout=1.0), "dropout must be a rate in [0, 1), the share that is zeroed, got 1.0"),
    "rate below": (lambda: LSTM(4, recurrent_dropout=-0.1), "recurrent_dropout must be a rate"),
    "activation": (lambda: LSTM(4, activation="tahn"), "unknown activation 'tahn': use a callable or one of elu, gelu"),
    "recurrent activation": (lambda: LSTM(4, recurrent_activation="x"), "unknown activation 'x'"),
    "output activation": (lambda: LSTM(4, output_activation="x"), "unknown activation 'x'"),
    "initializer": (lambda: LSTM(4, kernel_init="x"), "unknown initializer 'x': use a callable or one of"),
    "recurrent initializer": (lambda: LSTM(4, recurrent_init="x"), "unknown initializer 'x'"),
    "bias initializer": (lambda: LSTM(4, bias_init="x"), "unknown initializer 'x'"),
    "option": (lambda: LSTM(4, hidden=3), "LSTM has no option 'hidden': help(LSTM) lists them"),
    "unroll": (lambda: LSTM(4, unroll=0), "unroll must be a whole number of at least 1 or 'all', got 0"),
    "remat": (lambda: LSTM(4, remat=-1), "remat must be a whole number of at least 1 or 'sqrt', got -1"),
    "backend": (lambda: LSTM(4, backend="cuda"), "backend must be one of 'auto', "),
    "merge": (lambda: Bidirectional(LAYER, "avg"), "merge must be one of 'concat', 'sum', 'mul', 'ave', None, got 'avg'"),
    # layers
    "empty Stack": (lambda: Stack(()), "layers must hold at least one layer, got none: pass Stack((LSTM(128), LSTM(64))), say"),
    "a cell in a Stack": (lambda: Stack((LSTMCell(4),)), "layers must be Layers such as LSTM(units), got LSTMCell"),
    "a layer for a Stack": (lambda: Stack(LAYER), "layers must be a tuple of Layers"),
    "two orders": (lambda: Stack((LSTM(4), LSTM(4, time_major=True))), "layers must agree on time_major"),
    "unmerged below": (lambda: Stack((Bidirectional(LAYER, None), LAYER)), "only the last layer may have merge=None"),
    "unmerged deeper below": (
        lambda: Stack((Stack((Bidirectional(LAYER, None),)), LAYER)),
        "only the last layer may have merge=None",
    ),
    "unmerged inside": (lambda: Bidirectional(Bidirectional(LAYER, None)), "cannot be merged with two more"),
    "Bidirectional cell": (lambda: Bidirectional(LSTMCell(4)), "layer must be a Layer such as LSTM(units)"),
    "RNN of a layer": (lambda: RNN(LAYER), "cell must be a Cell such as LSTMCell(units)"),
    "step both ways": (
        lambda: BIDIRECTIONAL.step(BIDIRECTIONAL.init(jax.random.key(0), 3), None, XS[:, 0]),
        "Bidirectional needs the whole sequence",
    ),
    "step backwards": (lambda: LSTM(4, reverse=True).step(PARAMS, None, XS[:, 0]), "this layer has reverse=True: use apply"),
    "states": (lambda: jlstm.cell_states(LAYER, PARAMS, XS, mask=MASK, lengths=[1, 2]), "lengths and mask are both given"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gives_one_sentence(name):
    """A ValueError or TypeError whose message is one line and says what is wrong."""
    call, sentence = CASES[name]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    message = str(caught.value)
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["lengths", "mask", "resets", "carry", "xs"])
def test_the_same_inputs_set_right_are_accepted(name):
    """The inputs above are refused only for their one mistake."""
    right = {"lengths": [5, 0], "mask": MASK, "resets": MASK, "carry": LSTMCarry(*CARRY), "xs": XS}
    carry, ys = apply(**{name: right[name]})
    assert ys.shape == (2, 5, 4)
    assert carry.c.shape == (2, 4)
