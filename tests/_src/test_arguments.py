"""Unknown arguments, above all those of other frameworks, are answered with what to write instead."""

import copy
import inspect
import pickle
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import pytest

import jlstm
from jlstm import GRU, LSTM, RNN, Bidirectional, ElmanCell, LSTMCell, Stack
from jlstm._src.arguments import INSTEAD
from jlstm.cells import Residual, WeightDrop
from problems import small_problem

LAYER = LSTM(4)
PARAMS = LAYER.init(jax.random.key(0), features=3)
XS = np.ones((2, 5, 3), np.float32)
CARRY = LAYER.initial_carry(PARAMS, (2,))


def sentence_of(call):
    """Return the message of a TypeError, ValueError or AttributeError, which has to be one short line."""
    with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) <= 300
    return message


CALLABLES = {
    "LSTM": lambda **options: LSTM(4, **options),
    "GRU": lambda **options: GRU(4, **options),
    "LSTMCell": lambda **options: LSTMCell(4, **options),
    "ElmanCell": lambda **options: ElmanCell(4, **options),
    "RNN": lambda **options: RNN(LSTMCell(4), **options),
    "Stack": lambda **options: Stack((LSTM(4),), **options),
    "Bidirectional": lambda **options: Bidirectional(LSTM(4), **options),
    "WeightDrop": lambda **options: WeightDrop(LSTMCell(4), **options),
    "Residual": lambda **options: Residual(LSTMCell(4), **options),
    "layer.init": lambda **options: LAYER.init(jax.random.key(0), 3, **options),
    "layer.apply": lambda **options: LAYER.apply(PARAMS, XS, **options),
    "layer.step": lambda **options: LAYER.step(PARAMS, None, XS[:, 0], **options),
    "layer.initial_carry": lambda **options: LAYER.initial_carry(PARAMS, (2,), **options),
    "layer.last_output": lambda **options: LAYER.last_output(CARRY, **options),
    "cell_states": lambda **options: jlstm.cell_states(LAYER, PARAMS, XS, **options),
    "explain": lambda **options: jlstm.explain(LAYER, PARAMS, XS, **options),
}


@pytest.mark.parametrize("name", CALLABLES)
def test_every_foreign_name_is_answered(name):
    """Constructors and methods say of each name in the table what to write instead; only `features` is ours, too."""
    for option in INSTEAD.keys() - {"features"}:
        message = sentence_of(lambda option=option: CALLABLES[name](**{option: 1}))
        assert message.endswith(INSTEAD[option])
        assert f"has no {'option' if name[0].isupper() else 'argument'} {option!r}" in message


@pytest.mark.parametrize("name", CALLABLES)
def test_any_other_name_is_answered_too(name):
    """A misspelled or unknown name is answered with the name that may be meant, or where to look."""
    message = sentence_of(lambda: CALLABLES[name](zzz=1))
    assert "has no " in message
    assert "it takes " in message or "lists them" in message


TABLE = {
    "PyTorch's sizes": (lambda: LSTM(10, 20), "write LSTM(hidden_size), and input_size in layer.init(key, features=input_size)"),
    "a GRU's sizes": (lambda: GRU(10, 20), "write GRU(hidden_size)"),
    "PyTorch's sizes by name": (lambda: LSTM(input_size=10, hidden_size=20), "write layer.init(key, features=…)"),
    "a call": (lambda: LAYER(XS), "carry, ys = layer.apply(params, xs)"),
    "a call of a cell": (lambda: LSTMCell(4)(CARRY, XS[:, 0]), "layer = RNN(cell)"),
    "layers one by one": (lambda: Stack(LSTM(4), LSTM(3)), "put the layers into a tuple, Stack((LSTM(64), LSTM(32)))"),
    "no units": (lambda: LSTM(), "LSTM needs units, got none: see help(LSTM)"),
    "no cell": (lambda: RNN(reverse=True), "RNN needs cell, got none"),
    "no like": (lambda: jlstm.load("lstm.safetensors"), "load needs like, got none: see help(load)"),
    "nothing to save": (lambda: jlstm.save("lstm.safetensors"), "save needs params, got none: see help(save)"),
    "units twice": (lambda: LSTM(4, units=4), "LSTM got units twice, by position and by name"),
    "two sizes for a cell": (
        lambda: LSTMCell(10, 20),
        "LSTMCell takes no more than units by position, got 1 more: give the others",
    ),
    "no inputs": (lambda: LAYER.apply(PARAMS), "layer.apply needs xs"),
    "lengths by position": (lambda: LAYER.apply(PARAMS, XS, None, [5, 2]), "layer.apply takes no more than params, xs, carry"),
    "a misspelled option": (lambda: LSTM(4, dropuot=0.2), "perhaps 'dropout': see help(LSTM)"),
    "a misspelled argument": (lambda: LAYER.apply(PARAMS, XS, length=[5, 2]), "perhaps 'lengths'"),
    "units of a layer": (lambda: LAYER.units, "it is an option of its cell, layer.cell.units"),
    "an attribute": (lambda: LAYER.weights, "a layer has no attribute 'weights'"),
    # kinds of things
    "swapped": (
        lambda: LAYER.apply(XS, PARAMS),
        "params and inputs are in each other's place, got an array and a dict: write layer",
    ),
    "swapped in a step": (lambda: LAYER.step(XS[:, 0], None, PARAMS), "write layer.step(params, carry, x)"),
    "swapped for a Stack": (lambda: Stack((LAYER,)).apply(XS, (PARAMS,)), "got an array and a tuple"),
    "objects": (lambda: LAYER.apply(PARAMS, XS.astype(object)), "xs must hold numbers, got an array of objects: convert it"),
    "text": (lambda: LAYER.apply(PARAMS, "xs"), "xs must be an array of numbers, got 'xs'"),
    "text in an array": (lambda: LAYER.apply(PARAMS, XS.astype(str)), "xs must be an array of numbers, got an array of shape"),
    "ragged lists": (lambda: LAYER.apply(PARAMS, [[[1.0] * 3], [[1.0] * 3] * 2]), "xs must be an array of numbers, got [[["),
    "nothing": (lambda: LAYER.apply(PARAMS, None), "xs must be an array of numbers, got None"),
    "a shape": (lambda: LAYER.apply(PARAMS, jax.ShapeDtypeStruct((2, 5, 3), "float32")), "xs must be an array of numbers, got"),
    "a mask of objects": (lambda: LAYER.apply(PARAMS, XS, mask=np.ones((2, 5), object)), "mask must hold numbers"),
    "text for lengths": (lambda: LAYER.apply(PARAMS, XS, lengths="ab"), "lengths must be an array of numbers, got 'ab'"),
    # sizes
    "an array for features": (
        lambda: LAYER.init(jax.random.key(0), XS),
        "got an array of shape (2, 5, 3) and dtype float32: pass feat",
    ),
    "a shape for features": (
        lambda: LAYER.init(jax.random.key(0), XS.shape),
        "features must be a whole number of at least 1, got (2,",
    ),
    "text for features": (lambda: LAYER.init(jax.random.key(0), "3"), "features must be a whole number of at least 1, got '3'"),
    "a number for a batch": (
        lambda: LAYER.initial_carry(PARAMS, 2),
        "batch_shape must be a tuple of sizes such as (2,), got 2: write",
    ),
    "inputs for a batch": (
        lambda: LAYER.initial_carry(PARAMS, XS),
        "got an array of shape (2, 5, 3) and dtype float32: write xs",
    ),
    "batch for params": (
        lambda: LAYER.initial_carry((2,), (2,)),
        "params must be a Mapping such as layer.init returns, got (2,)",
    ),
    "no params": (lambda: LAYER.initial_carry(None, (2,)), "params must be a Mapping such as layer.init returns, got None"),
    "empty params": (
        lambda: LAYER.initial_carry({"bias": XS}, (2,)),
        "params must be what init of this layer returned, got dict",
    ),
    "linen's variables": (lambda: LAYER.apply({"params": PARAMS}, XS), "pass what is in it, variables['params']"),
    "linen's variables of a Stack": (lambda: Stack((LAYER,)).apply({"params": (PARAMS,)}, XS), "variables['params']"),
    "a layer's params": (lambda: Stack((LAYER,)).initial_carry(PARAMS, (2,)), "params must be a tuple of 1"),
    "no params of a Stack": (
        lambda: Stack((LAYER,)).initial_carry(None, (2,)),
        "params must be what init of this layer returned",
    ),
    "empty masks": (
        lambda: Bidirectional(LAYER).apply({"forward": PARAMS, "backward": PARAMS}, XS, dropout_masks={}),
        "dropout_masks must be a dict with 'forward' and 'backward', got an empty dict",
    ),
    "one direction's params": (
        lambda: Bidirectional(LAYER).initial_carry(PARAMS, (2,)),
        "params must be a dict with 'forward' and 'backward', got 'kernel', 'recurrent_kernel', 'bias'",
    ),
    # keys
    "a number for a key": (lambda: LAYER.init(0, 3), "key must be a random key of JAX, got 0: pass jax.random.key(0)"),
    "features first": (lambda: LAYER.init(3, jax.random.key(0)), "key must be a random key of JAX, got 3"),
    "a number for dropout": (lambda: LSTM(4, dropout=0.5).apply(PARAMS, XS, key=0), "key must be a random key of JAX, got 0"),
    "no key": (lambda: LAYER.init(None, 3), "key must be a random key of JAX, got None"),
    "text for a key": (lambda: LAYER.init("dropout", 3), "key must be a random key of JAX, got 'dropout'"),
    "True for a key": (lambda: LAYER.apply(PARAMS, XS, key=True), "key must be a random key of JAX, got True"),
    "inputs for a key": (
        lambda: LAYER.apply(PARAMS, XS, key=XS),
        "key must be a random key of JAX, got an array of shape (2, 5, 3)",
    ),
    "many keys": (lambda: LAYER.init(jax.random.split(jax.random.key(0)), 3), "key must be one random key, got several"),
    "many raw keys": (lambda: LAYER.init(jax.random.split(jax.random.PRNGKey(0)), 3), "key must be one random key, got several"),
    "an initializer": (
        lambda: LSTM(4, kernel_init=lambda *_: np.ones(3)).init(jax.random.key(0), 3),
        "of shape (3, 16), got shape (3,)",
    ),
    "a layer to save": (lambda: jlstm.save("x.safetensors", LAYER), "params must be a tree of arrays, got RNN(cell"),
    "a module for a layer": (lambda: jlstm.explain(jlstm.linen.Recurrent(LAYER), PARAMS, XS), "pass its layer, .layer"),
    "Flax's features": (lambda: LSTM(features=20), "write the number of units first, as in LSTM(20), and the size of inputs in"),
    "a cell for a layer": (lambda: jlstm.explain(LSTMCell(4), PARAMS, XS), "layer must be a Layer such as LSTM(units)"),
}


@pytest.mark.parametrize("name", TABLE)
def test_first_lines_of_newcomers(name):
    """The mistakes of a first session are answered in one sentence, without an array in it."""
    call, sentence = TABLE[name]
    assert sentence in sentence_of(call)


def test_tensors_that_require_a_gradient():
    """PyTorch parameters as inputs or weights are refused with the advice to detach them."""
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2, 5, 3, requires_grad=True)
    assert "pass xs.detach()" in sentence_of(lambda: LAYER.apply(PARAMS, tensor))
    module = torch.nn.LSTM(3, 4)
    message = sentence_of(lambda: jlstm.convert.torch.load(dict(module.named_parameters())))
    assert "pass module.state_dict(), or .detach() it" in message
    jlstm.convert.torch.load(module.state_dict())


def test_raw_keys_will_do():
    """Keys of the kind before `jax.random.key` are accepted, also as NumPy arrays."""
    raw = jax.random.PRNGKey(0)
    expected = LAYER.init(jax.random.key(0), 3)
    jax.tree.map(np.testing.assert_array_equal, LAYER.init(raw, 3), expected)
    jax.tree.map(np.testing.assert_array_equal, LAYER.init(np.asarray(raw), 3), expected)


@pytest.mark.parametrize("function", [LSTM, GRU], ids=["LSTM", "GRU"])
def test_help_is_short_and_complete(function):
    """The signature has no types of JAX in it, and the docstring names every option with its default."""
    signature = inspect.signature(function)
    assert len(str(signature)) < 600
    for name, parameter in signature.parameters.items():
        default = "" if parameter.default is inspect.Parameter.empty else "=" + repr(parameter.default).replace("'", '"')
        assert f"{name}{default}" in function.__doc__.replace("dtype('float32')", '"float32"')


LAYERS = {
    "LSTM": LSTM(4),
    "GRU": GRU(4, dropout=0.5),
    "Stack": Stack((LSTM(4, dtype="bfloat16"), Bidirectional(LSTM(3), "sum"))),
    "wrapped": RNN(WeightDrop(LSTMCell(4))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_copies_are_equal(name):
    """Copies and pickles, which Python makes without the constructor's arguments, equal the layer."""
    layer = LAYERS[name]
    for again in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert again == layer
        assert hash(again) == hash(layer)


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_go_through_transformations(name):
    """To JAX a layer is a tree without leaves, so `jit`, `vmap`, `grad` and `scan` take it beside parameters."""
    layer = LAYERS[name]
    params = small_problem(layer, dtype=np.float32).params
    model = {"layer": layer, "params": params}
    run = jax.jit(lambda layer, params, xs: layer.apply(params, xs)[1])
    expected = jax.jit(lambda params, xs: layer.apply(params, xs)[1])(params, XS)
    np.testing.assert_array_equal(run(layer, params, XS), expected)
    np.testing.assert_array_equal(run(copy.deepcopy(layer), params, XS), expected)
    assert run._cache_size() == 1
    np.testing.assert_array_equal(jax.jit(lambda m, xs: m["layer"].apply(m["params"], xs)[1])(model, XS), expected)
    gradient = jax.jit(jax.grad(lambda m: m["layer"].apply(m["params"], XS)[1].astype("float32").sum()))
    assert gradient(model)["layer"] == layer
    assert jax.tree.leaves(layer) == []
    _, stacked = jax.jit(partial(jax.lax.scan, lambda m, xs: (m, m["layer"].apply(m["params"], xs)[1])))(model, XS[None])
    assert stacked.shape == (1, *expected.shape)


def test_other_options_compile_anew():
    """A layer that differs in one option is compiled separately."""
    run = jax.jit(lambda layer, params, xs: layer.apply(params, xs)[1])
    forward, backward = run(LAYER, PARAMS, XS), run(LSTM(4, reverse=True), PARAMS, XS)
    np.testing.assert_array_equal(forward, backward[:, ::-1])
    assert run._cache_size() == 2


def test_cells_of_ones_own_are_answered_alike():
    """A cell class made outside jlstm answers unknown names too; one that takes any keyword is left alone."""

    @dataclass(frozen=True, repr=False)
    class Custom(LSTMCell):
        scale: float = 1.0

    class Loose(LSTMCell):
        def __init__(self, *sizes, **anything):
            super().__init__(sizes[0])

    assert "Custom has no option 'hidden_size'" in sentence_of(lambda: Custom(hidden_size=4))
    assert Custom(4, scale=2.0).scale == 2
    assert Loose(4, 5, num_layers=2).units == 4
    assert jax.tree.leaves(Custom(4)) == []


def test_modules_are_imported_when_they_are_named():
    """`jlstm.nnx` needs no import of its own, and the version is the installed one."""
    import importlib.metadata

    assert jlstm.nnx.Recurrent.__module__ == "jlstm.nnx"
    assert jlstm.__version__ == importlib.metadata.version("jlstm")
    assert {"nnx", "plot", "LSTM", "__version__"} <= set(dir(jlstm))
    assert "has no attribute 'Lstm'" in sentence_of(lambda: jlstm.Lstm)
