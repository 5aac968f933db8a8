"""PyTorch's weights: the same outputs as its own modules in float64, there and back to the same bits, and files of both kinds."""

import zipfile
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from conversions import damaged, refusal, spoiled, survives
from jlstm import GRU, LSTM, RNN, Bidirectional, Carry, LSTMCell, Stack
from jlstm.cells import GRUCarry
from jlstm.convert import torch as convert
from problems import BATCH, FEATURES, TIME, UNITS, apply, problem

pytestmark = pytest.mark.usefixtures("x64")
CLOSE = {"rtol": 0, "atol": 1e-12}  # of float64, over a few steps
CASES = [
    (kind, options)
    for kind, layers, bidirectional, bias, proj_size in product(["LSTM", "GRU"], [1, 3], [False, True], [True, False], [0, 2])
    if kind == "LSTM" or not proj_size
    for options in [{"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "proj_size": proj_size}]
]


def module(kind, **options):
    """One of PyTorch's, with random weights, biases too."""
    torch.manual_seed(0)
    options = {name: value for name, value in options.items() if name != "proj_size" or value}
    return getattr(torch.nn, kind)(FEATURES, UNITS, batch_first=True, dtype=torch.float64, **options)


def ours(layer, tensors):
    """States (layers · directions, batch, size) as our carry."""
    kind = GRUCarry if len(tensors) == 1 else Carry
    states = iter(zip(*(tensor.detach().numpy() for tensor in tensors), strict=True))

    def carry(one):
        if isinstance(one, Stack):
            return tuple(carry(each) for each in one.layers)
        return (
            {name: carry(one.layer) for name in ("forward", "backward")}
            if isinstance(one, Bidirectional)
            else kind(*next(states))
        )

    return carry(layer)


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_the_same_weights_give_the_same_outputs(kind, options):
    """Outputs and last states from random initial states, for layers, directions, biases and projections."""
    theirs = module(kind, **options)
    layer, params = convert.load(theirs.state_dict())
    rng = np.random.default_rng(0)
    xs, count = rng.normal(size=(BATCH, TIME, FEATURES)), options["num_layers"] * (1 + options["bidirectional"])
    sizes = [options["proj_size"] or UNITS, UNITS][: 2 if kind == "LSTM" else 1]
    states = [torch.tensor(rng.normal(size=(count, BATCH, size))) for size in sizes]
    ys, last = theirs(torch.tensor(xs), tuple(states) if kind == "LSTM" else states[0])
    carry, got = apply(layer, params, xs, ours(layer, states))
    np.testing.assert_allclose(got, ys.detach(), **CLOSE)
    expected = ours(layer, last if kind == "LSTM" else [last])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), carry, expected)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_single_cells_are_layers(kind):
    """One step of a cell is one step of the layer."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(FEATURES, UNITS, dtype=torch.float64)
    layer, params = convert.load(theirs.state_dict())
    x = np.random.default_rng(0).normal(size=(BATCH, FEATURES))
    expected = theirs(torch.tensor(x))
    _, y = layer.step(params, None, x)
    np.testing.assert_allclose(y, (expected[0] if kind == "LSTMCell" else expected).detach(), **CLOSE)


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_what_is_dumped_has_their_names_and_comes_back(kind, options):
    """PyTorch takes every name, and our parameters survive the way there and back, bit by bit, signs of zeros too."""
    theirs = module(kind, **options)
    layer, params = convert.load(theirs.state_dict())
    params = jax.tree.map(lambda leaf: np.where(leaf > 0.2, -0.0, leaf), params)
    weights = convert.dump(layer, params)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    again, back = convert.load(theirs.state_dict())
    assert again == layer
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.view(np.int64), b.view(np.int64)), *map(plain, (back, params)))


def plain(tree):
    """In memory as it reads."""
    return jax.tree.map(np.ascontiguousarray, tree)


def test_weights_without_their_second_bias_are_merged():
    """The two biases of an LSTM become their sum; of a GRU's only the candidate's stay two."""
    weights = {name: value.numpy() for name, value in module("GRU").state_dict().items()}
    _, params = convert.load(weights)
    first, second = weights["bias_ih_l0"], weights["bias_hh_l0"]
    np.testing.assert_array_equal(params["bias"][:UNITS], (first + second)[UNITS : 2 * UNITS])
    np.testing.assert_array_equal(params["bias"][2 * UNITS :], first[2 * UNITS :])
    np.testing.assert_array_equal(params["recurrent_bias"], second[2 * UNITS :])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_files_of_a_whole_model_are_read_by_name(tmp_path, ending, dtype):
    """All recurrent layers of a model, whatever else it holds; dtypes stay."""
    model = torch.nn.ModuleDict(
        {"encoder": module("LSTM", num_layers=2), "head": torch.nn.Linear(2, 2), "decoder": module("GRU")}
    )
    model, path = model.to(dtype), tmp_path / f"model.{ending}"
    save_file(model.state_dict(), path) if ending == "safetensors" else torch.save(model.state_dict(), path)
    found = convert.read(path)
    assert found.keys() == {"encoder", "decoder"}
    layer, params = found["encoder"]
    assert isinstance(layer, Stack)
    assert params[0]["kernel"].dtype == jnp.dtype(str(dtype).removeprefix("torch."))
    expected = model["encoder"].weight_ih_l0.detach().float().numpy().T
    np.testing.assert_array_equal(params[0]["kernel"].astype(np.float32), expected)
    _, by_prefix = convert.load({k: v.float() for k, v in model.state_dict().items()}, prefix="encoder.")
    np.testing.assert_array_equal(by_prefix[0]["kernel"], expected)


def test_what_is_written_is_a_state_dict(tmp_path):
    """A file for `load_state_dict`."""
    known = problem(Stack((Bidirectional(LSTM(UNITS)), Bidirectional(LSTM(UNITS)))))
    convert.write(tmp_path / "model.safetensors", known.layer, known.params)
    theirs = module("LSTM", num_layers=2, bidirectional=True)
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"))
    _, ys = apply(known.layer, known.params, known.xs)
    np.testing.assert_allclose(ys, theirs(torch.tensor(known.xs))[0].detach(), **CLOSE)


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (LSTM(UNITS, peephole=True), "PyTorch has no peephole=True"),
        (LSTM(UNITS, activation="relu"), "PyTorch has no activation='relu', only 'tanh'"),
        (LSTM(UNITS, output_activation="relu"), "PyTorch has no output_activation='relu'"),
        (LSTM(UNITS, cell_clip=1), r"PyTorch has no cell_clip=1\.0"),
        (LSTM(UNITS, projection=2, projection_clip=1), "PyTorch has no projection_clip"),
        (LSTM(UNITS, layer_norm="ba2016"), "PyTorch has no layer_norm='ba2016'"),
        (LSTM(UNITS, coupled="f=1-i"), "PyTorch has no coupled='f=1-i'"),
        (GRU(UNITS, reset_after=False), "PyTorch has no reset_after=False"),
        (LSTM(UNITS, reverse=True), "PyTorch has no reverse=True"),
        (Bidirectional(LSTM(UNITS), "sum"), "PyTorch has no merge='sum'"),
        (Stack((LSTM(UNITS), LSTM(2))), "PyTorch has layers of one kind, size"),
        (Bidirectional(Stack((LSTM(UNITS),))), "convert its parts"),
    ],
    ids=repr,
)
def test_what_pytorch_does_not_have_is_refused(layer, complaint):
    """Each refusal names the option."""
    with pytest.raises(ValueError, match=complaint):
        convert.dump(layer, problem(layer).params)


def test_parameters_of_another_layer_are_refused():
    """Before anything is converted."""
    with pytest.raises(ValueError, match=r"params\['bias'\] must have shape \(8,\), got \(16,\)"):
        convert.dump(LSTM(2), problem(LSTM(UNITS)).params)
    with pytest.raises(ValueError, match="params must be what init"):
        convert.dump(Bidirectional(LSTM(2)), problem(LSTM(2)).params)
    with pytest.raises(ValueError, match=r"recurrent_kernel.*must have shape"):
        convert.dump(RNN(LSTMCell(UNITS)), problem(LSTM(UNITS, projection=2)).params)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"\x80\x02}q\x00.", b"\xff" * 64])
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_files_of_another_kind_are_one_sentence(tmp_path, ending, content):
    """Nothing, or something else."""
    (tmp_path / f"model.{ending}").write_bytes(content)
    refusal(lambda: convert.read(tmp_path / f"model.{ending}"))


@pytest.mark.parametrize("pickled", [b"j", b"r\0", b"X\1", b"G", b"}(K\1u.", b"\x8a\xff", b"h\0.", b"."], ids=repr)
def test_pickles_that_end_early_are_one_sentence(tmp_path, pickled):
    """In the middle of a number, with nothing on the stack, with a key and no value: whatever PyTorch's reader raises."""
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for name, content in {"data.pkl": b"\x80\x02" + pickled, "byteorder": b"little", "version": b"3\n"}.items():
            archive.writestr(f"model/{name}", content)
    assert "is not a state_dict" in refusal(lambda: convert.read(tmp_path / "model.pt"))


def test_members_with_names_of_two_lines_are_one_sentence(tmp_path):
    """And with other content than their checksum is for."""
    with zipfile.ZipFile(tmp_path / "whole.pt", "w") as archive:
        archive.writestr("model/two\nlines.pkl", b"what it is")
    (tmp_path / "model.pt").write_bytes((tmp_path / "whole.pt").read_bytes().replace(b"what it is", b"what it no"))
    assert "has no whole 'model/two\\nlines.pkl' in it" in refusal(lambda: convert.read(tmp_path / "model.pt"))


def test_pickles_are_not_executed(tmp_path):
    """A `.pt` file with anything but tensors is refused by PyTorch's own reader, and so is an object that would run code."""

    class Attack:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"weight_hh_l0": Attack()}, tmp_path / "model.pt")
    refusal(lambda: convert.read(tmp_path / "model.pt"))
    assert not (tmp_path / "ran").exists()


def test_tensors_of_another_kind_are_left_out(tmp_path):
    """Numbers of one byte, and what is negated only when read: the LSTM beside them is found."""
    other = {"small.weight": torch.zeros(8, 2).to(torch.float8_e4m3fn), "turned.weight": torch._neg_view(torch.zeros(8, 2))}
    torch.save(torch.nn.LSTM(3, 2).state_dict(prefix="one.") | other, tmp_path / "model.pt")
    assert convert.read(tmp_path / "model.pt").keys() == {"one"}
    torch.save({name.replace("small.weight", "weight_hh_l0"): value for name, value in other.items()}, tmp_path / "model.pt")
    assert "has no" in refusal(lambda: convert.read(tmp_path / "model.pt"))


@pytest.mark.parametrize("use", [b")R.", b"}h\0h\0s."], ids=["called", "a key"])
def test_pickles_that_grow_are_refused_before_they_do(tmp_path, use):
    """Sixty pairs of the same pair have 2⁶⁰ leaves when somebody looks at all of them, and PyTorch does."""
    grown = b")q\0" + b"h\0h\0\x86q\0" * 60
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for name, content in {"data.pkl": b"\x80\x02" + grown + use, "byteorder": b"little", "version": b"3\n"}.items():
            archive.writestr(f"model/{name}", content)
    assert "holds the same thing too often" in refusal(lambda: convert.read(tmp_path / "model.pt"))


def test_declared_sizes_are_checked(tmp_path):
    """A tensor of one number that is spread over a huge shape takes no memory."""
    huge = torch.zeros(1).expand(4 * 10**5, 10**5)
    torch.save({"weight_hh_l0": huge, "weight_ih_l0": huge}, tmp_path / "model.pt")
    assert "declares more numbers than it holds" in refusal(lambda: convert.read(tmp_path / "model.pt"))


WEIGHTS = {
    kind: {name: value.numpy() for name, value in module(kind, num_layers=2, bidirectional=True).state_dict().items()}
    for kind in ("LSTM", "GRU")
}


@given(st.sampled_from(sorted(WEIGHTS)).flatmap(lambda kind: spoiled(WEIGHTS[kind], 0)))
@settings(max_examples=100)
def test_weights_that_do_not_fit_are_one_sentence(weights):
    """Missing, too many, of another shape or dtype."""
    refusal(lambda: convert.load(weights))


@given(st.data())
@settings(max_examples=60)
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_damaged_files_are_read_or_refused(tmp_path, ending, data):
    """Whatever bytes are cut off or changed."""
    path = tmp_path / f"model.{ending}"
    save_file(SMALL, path) if ending == "safetensors" else torch.save(SMALL, path)
    survives(convert.read, path, data.draw(damaged(path.read_bytes())))


SMALL = torch.nn.LSTM(2, 1).state_dict()
