"""Which backend runs a call, and how `explain` tells the user."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from jlstm import GRU, LSTM, RNN, Bidirectional, ElmanCell, Stack, backends
from jlstm.backends.cpu import kernel, library
from problems import FEATURES, TIME, UNITS, assert_close, small_problem

pytestmark = pytest.mark.newest_jax

XS = jax.ShapeDtypeStruct((2, TIME, FEATURES), jnp.float32)


def explained(layer, xs=XS, **options):
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES))
    return str(jlstm.explain(layer, params, xs, **options))


@pytest.mark.usefixtures("native")
def test_auto_takes_the_native_kernel_on_a_cpu():
    """`auto` takes the fastest backend that can serve the call, for each run of a cell. `explain` names the instruction set."""
    cpu = f"cpu ({library.load().instructions})"  # for example "cpu (avx2)"
    assert explained(LSTM(UNITS)) == f"LSTMCell(units=4) is run by {cpu}"
    assert explained(GRU(UNITS)) == f"GRUCell(units=4) is run by {cpu}"
    assert explained(LSTM(UNITS, projection=2)) == f"LSTMCell(units=4, projection=2) is run by {cpu}"
    lines = explained(Stack((Bidirectional(LSTM(UNITS)), LSTM(6)))).splitlines()
    assert lines == [
        f"layer 0, forward: LSTMCell(units=4) is run by {cpu}",
        f"layer 0, backward: LSTMCell(units=4) is run by {cpu}",
        f"layer 1: LSTMCell(units=6) is run by {cpu}",
    ]


NOT_BY_THE_KERNEL = {
    "another activation": (LSTM(UNITS, activation="gelu"), "it has no activation function gelu"),
    "a function": (LSTM(UNITS, recurrent_activation=jax.nn.silu), "an activation function is a callable and not a name"),
    "layer normalization": (LSTM(UNITS, layer_norm="ba2016"), "it is not for layer_norm='ba2016'"),
    "another cell": (RNN(ElmanCell(UNITS)), "it is not for ElmanCell"),
    "a GRU that resets before the product": (GRU(UNITS, reset_after=False), "it is not for reset_after=False"),
    "a GRU with another activation": (GRU(UNITS, activation="relu"), "it is not for activation='relu'"),
    "a GRU with dropout of h": (GRU(UNITS, recurrent_dropout=0.5), "h or g has dropout"),
    "dropout of h": (LSTM(UNITS, recurrent_dropout=0.5), "h or g has dropout"),
}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", NOT_BY_THE_KERNEL)
def test_what_the_kernel_cannot_do_is_told(name):
    """`explain` gives one reason for each backend that cannot serve the call."""
    layer, why = NOT_BY_THE_KERNEL[name]
    explanation = explained(layer, **({"key": jax.random.key(0)} if layer.stochastic else {}))
    assert f"not by cpu: {why}" in explanation
    assert "is run by fused" in explanation or "not by fused: " in explanation


@pytest.mark.usefixtures("native")
def test_dropout_masks_for_each_gate_and_all_carries_are_not_for_the_kernel():
    """Dropout of the inputs with one mask for all gates runs in the kernel."""
    layer = LSTM(UNITS, dropout=0.5)
    assert explained(layer, key=jax.random.key(0)).endswith(f"is run by cpu ({library.load().instructions})")
    dropout_masks = {"inputs": np.ones((4, 2, FEATURES), np.float32)}
    assert "not by cpu: the inputs have a dropout mask for each gate" in explained(layer, dropout_masks=dropout_masks)
    with backends.recorded() as choices:
        layer, params, xs, _ = small_problem(LSTM(UNITS), dtype=np.float32)
        jlstm.cell_states(layer, params, xs)
    assert str(choices[0]).endswith("is run by fused; not by cpu: the carries of all steps are asked for")


def test_a_backend_asked_for_is_where_the_search_begins():
    """A backend asked for by name is tried first; `scan` serves every call."""
    assert explained(LSTM(UNITS, backend="scan")) == "LSTMCell(units=4) is run by scan"
    assert explained(LSTM(UNITS, backend="fused")) == "LSTMCell(units=4) is run by fused"


def test_dropout_that_is_off_is_told():
    """`explain` says that dropout is off for lack of a key, which is silent in a run."""
    layer = Stack((LSTM(UNITS, dropout=0.5), LSTM(6)))
    assert explained(layer).splitlines()[-1] == "dropout is off, since no key is given"
    assert "dropout is off" not in explained(layer, key=jax.random.key(0))
    assert "dropout is off" not in explained(LSTM(UNITS))


def test_choices_are_logged(caplog):
    """The choice of a backend is logged at level DEBUG, when a call is traced."""
    with caplog.at_level(logging.DEBUG, "jlstm.backends"):
        explained(LSTM(UNITS, backend="fused"))
    assert caplog.messages == ["LSTMCell(units=4) is run by fused"]


@pytest.fixture
def without_kernel(monkeypatch):
    """Simulate a machine without a compiler."""
    no_library = library.Library(None, reason="no kernel was built")
    monkeypatch.setattr(library, "load", lambda: no_library)
    kernel.obstacle.cache_clear()
    yield
    kernel.obstacle.cache_clear()


@pytest.mark.usefixtures("without_kernel")
def test_without_a_kernel_all_goes_on():
    """Without a kernel the pure JAX backend serves the call, and `explain` says why."""
    assert explained(LSTM(UNITS, backend="cpu")) == "LSTMCell(units=4) is run by fused; not by cpu: no kernel was built"
    layer, params, xs, carry = small_problem(LSTM(UNITS, backend="cpu"), dtype=np.float32)
    assert_close(layer.apply(params, xs, carry), LSTM(UNITS, backend="scan").apply(params, xs, carry), atol=1e-6)


def test_a_kernel_that_jax_refuses_is_no_error(monkeypatch):
    """A kernel compiled for a newer JAX is reported in a sentence, and nothing is raised."""

    def refuse(*_, **__):
        raise RuntimeError("API version (9.9) is incompatible")

    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    kernel.obstacle.cache_clear()
    try:
        why = kernel.obstacle()
        assert why == library.load().reason or why == "this JAX cannot call the kernel: API version (9.9) is incompatible"
    finally:
        kernel.obstacle.cache_clear()


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    ("batch", "steps", "backend"),
    [(1, 1, "fused"), (1, 127, "fused"), (8, 15, "fused"), (256, 1, "fused"), (1, 128, "cpu"), (8, 16, "cpu"), (256, 4, "cpu")],
)
def test_auto_leaves_short_windows_to_xla(batch, steps, backend):
    """Packing the weights costs more than the kernel saves on short windows; by name the kernel still runs."""
    xs = jax.ShapeDtypeStruct((batch, steps, FEATURES), jnp.float32)
    with backends.auto():  # as users have it
        explanation = explained(LSTM(UNITS), xs)
    assert explanation.startswith(f"LSTMCell(units=4) is run by {backend}")
    assert ("not by cpu: it packs the weights at every call, which pays from 4 steps and" in explanation) == (backend == "fused")
    assert explained(LSTM(UNITS, backend="cpu"), xs).startswith("LSTMCell(units=4) is run by cpu (")
