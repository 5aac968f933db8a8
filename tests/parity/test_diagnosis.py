"""Every planted fault is diagnosed: which gates, which matrix, which bias, which direction of time, which precision."""

from itertools import combinations

import jax
import numpy as np
import pytest

import planted_faults
from jlstm import LSTM, Bidirectional, Stack
from parity import Problem, diagnose
from parity.values import draw
from planted_faults import bias, combined, gates, params, small_problem, step_by_step, with_layer, with_results, with_values

pytestmark = pytest.mark.xdist_group("tensorflow")

BIDIRECTIONAL = Bidirectional(LSTM(4))
STACK = Stack((LSTM(4), LSTM(4)))
DROPPING = LSTM(4, dropout=0.3, recurrent_dropout=0.4)


def swapped(a, b):
    return "".join({a: b, b: a}.get(letter, letter) for letter in "ifgo")


PAIRS = {
    f"{a} and {b} swapped": (params(gates(swapped(a, b))), {}, f"the {a} and {b} gates are swapped")
    for a, b in combinations("ifgo", 2)
}
LOADED = PAIRS | {
    "gates of ONNX": (params(gates("iofg")), {}, "the columns of i, o, f, g are taken for i, f, g, o"),
    "gates in a circle": (params(gates("fgoi")), {}, "the columns of f, g, o, i are taken for i, f, g, o"),
    "forget bias again": (params(bias(f=1.0)), {}, "the forget bias is added twice"),
    "forget bias missing": (params(bias(f=-1.0)), {}, "the forget bias is missing"),
    "bias missing": (params(planted_faults.scaled_bias(0)), {}, "the bias is missing"),
    "bias twice": (params(planted_faults.scaled_bias(2)), {}, "the bias is added twice"),
    "recurrent kernel": (
        params(planted_faults.blocks_transposed("recurrent_kernel")),
        {},
        "recurrent kernel is transposed gate by gate",
    ),
    "sequence": (with_values(xs=lambda xs: xs[:, ::-1]), {}, "the sequence is reversed, and its outputs are left in that order"),
    "direction": (with_layer(LSTM(4, reverse=True)), {}, "the sequence is reversed, and its outputs are put back in order"),
    "mask": (with_values(mask=lambda mask: None), {"mask": "right"}, "the mask is ignored"),
    "carry": (with_values(carry=planted_faults.carry_swapped), {}, "h and c of the initial carry are swapped"),
}
PLANTS = {
    # weights
    "f and g, kernel": (params(gates("igfo", ["kernel"])), {}, "the f and g gates are swapped in the kernel"),
    "i and o, bias": (params(gates("ofgi", ["bias"])), {}, "the i and o gates are swapped in the bias"),
    "second layer": (params(gates("igfo"), (1,)), {"layer": STACK}, "the f and g gates are swapped in layer 1"),
    "backward": (
        params(gates("igfo"), ("backward",)),
        {"layer": BIDIRECTIONAL},
        "the f and g gates are swapped in the backward direction",
    ),
    "all layers": (params(gates("igfo")), {"layer": STACK}, "matches if the f and g gates are swapped"),
    "kernel of torch": (
        params(lambda weights: weights | {"kernel": np.ascontiguousarray(weights["kernel"].T).reshape(weights["kernel"].shape)}),
        {},
        "the kernel is transposed (stored so, and read in our shape)",
    ),
    "square kernel": (
        params(lambda weights: weights | {"kernel": weights["kernel"].T}),
        {"layer": LSTM(2), "features": 8},
        "the kernel is transposed",
    ),
    "kernels": (
        params(lambda weights: weights | {"kernel": weights["recurrent_kernel"], "recurrent_kernel": weights["kernel"]}),
        {"features": 4},
        "the kernel and the recurrent kernel are swapped",
    ),
    "unit by unit": (
        params(lambda weights: {k: v.reshape(*v.shape[:-1], 4, 4).swapaxes(-1, -2).reshape(v.shape) for k, v in weights.items()}),
        {},
        "unit by unit instead of gate by gate",
    ),
    "forget bias on g": (params(bias(g=1.0)), {}, "a forget bias is added to the g gate"),
    "forget bias without bias": (
        planted_faults.forget_bias_alone,
        {"layer": LSTM(4, use_bias=False)},
        "a forget bias of 1 is added",
    ),
    "tensorflow 1": (
        params(combined(gates("igfo"), bias(f=1.0))),
        {},
        "the f and g gates are swapped and the forget bias is added twice",
    ),
    # time
    "outputs reversed": (with_results(ys=lambda ys: ys[:, ::-1]), {}, "the outputs are reversed"),
    "outputs late": (
        with_results(ys=lambda ys: np.concatenate([0 * ys[:, :1], ys[:, :-1]], 1)),
        {},
        "the outputs are one step late",
    ),
    "inputs late": (
        with_values(xs=lambda xs: np.concatenate([0 * xs[:, :1], xs[:, :-1]], 1)),
        {},
        "the inputs are one step late",
    ),
    "last alone": (with_results(ys=lambda ys: ys[:, -1:]), {}, "only the last step's output is returned"),
    "all instead of last": (
        lambda problem, values: planted_faults.keras(small_problem(), values._replace(d_ys=np.ones((2, 6, 4)))),
        {"outputs": "last"},
        "the outputs of all steps are returned",
    ),
    "first instead of last": (
        lambda problem, values: {"ys": planted_faults.right(small_problem())["ys"][:, :1]},
        {"outputs": "last"},
        "the output is that of the first step",
    ),
    "time-major outputs": (with_results(ys=lambda ys: ys.swapaxes(0, 1)), {}, "batch and time are swapped in the outputs"),
    "along the batch": (
        planted_faults.along_batch,
        {"initial_carry": False},
        "batch and time are swapped: the layer runs along the batch",
    ),
    "reshaped": (
        with_values(xs=lambda xs: xs.reshape(6, 2, 3).swapaxes(0, 1)),
        {},
        "batch and time are swapped by a reshape of the inputs",
    ),
    # padding
    "padding held": (
        planted_faults.outputs_held,
        {"mask": "holes"},
        "only padded steps differ: matches if outputs are held instead of zero",
    ),
    "padding held backwards": (
        planted_faults.outputs_held,
        {"mask": "holes", "layer": LSTM(4, reverse=True)},
        "only padded steps differ: matches if outputs are held instead of zero",
    ),
    "padding full of something": (
        with_results(ys=lambda ys: np.where(draw(small_problem(mask="right")).mask[:, :, None], ys, 7.0)),
        {"mask": "right"},
        "only padded steps differ",
    ),
    "mask late": (with_values(mask=lambda mask: np.roll(mask, 1, 1)), {"mask": "holes"}, "the mask is off by one step: too late"),
    "mask early": (
        with_values(mask=lambda mask: np.roll(mask, -1, 1)),
        {"mask": "left"},
        "the mask is off by one step: too early",
    ),
    "mask inverted": (with_values(mask=np.logical_not), {"mask": "holes"}, "the mask is inverted"),
    "mask reversed": (with_values(mask=lambda mask: mask[:, ::-1]), {"mask": "right"}, "padding is taken to be at the other end"),
    # carry
    "no carry": (
        with_values(carry=lambda carry: jax.tree.map(np.zeros_like, carry)),
        {},
        "the initial carry is ignored",
    ),
    "last carry": (planted_faults.last_carry_swapped, {}, "h and c of the last carry are swapped"),
    "new each batch": (planted_faults.anew_each_batch, {"batches": 3}, "the carry is not handed on from batch to batch"),
    "new each step": (step_by_step(lambda start, after: start), {}, "the carry is not handed on from step to step"),
    "h forgotten": (step_by_step(lambda start, after: after._replace(h=start.h)), {}, "h is not handed on from step to step"),
    "c forgotten": (step_by_step(lambda start, after: after._replace(c=start.c)), {}, "c is not handed on from step to step"),
    "c is the output": (step_by_step(lambda start, after: after, output="c"), {}, "the output is c instead of h"),
    "exchanged each step": (
        step_by_step(lambda start, after: planted_faults.carry_swapped(after)),
        {},
        "h and c are swapped after every step",
    ),
    "carries of layers": (
        with_values(carry=lambda carry: carry[::-1]),
        {"layer": STACK},
        "carries of the layers are in reverse",
    ),
    "carries of directions": (
        with_values(carry=lambda carry: {"forward": carry["backward"], "backward": carry["forward"]}),
        {"layer": BIDIRECTIONAL},
        "the carries of the directions are swapped",
    ),
    # activation
    "hard sigmoid of Keras 3": (
        with_layer(LSTM(4, recurrent_activation="hard_sigmoid")),
        {},
        "the recurrent activation is hard_sigmoid (relu6(x + 3) / 6, as in Keras 3)",
    ),
    "hard sigmoid of Keras 2": (
        planted_faults.in_tf_keras(recurrent_activation="hard_sigmoid"),
        {},
        "the recurrent activation is hard_sigmoid_0.2 (0.2 x + 0.5 cut off, as in Keras 2 and ONNX)",
    ),
    # precision
    "float32": (planted_faults.in_dtype("float32"), {}, "precision: computed in float32 and returned as float64"),
    "bfloat16": (planted_faults.in_dtype("bfloat16"), {}, "precision: computed in bfloat16 and returned as float64"),
    "bfloat16 for float32": (
        planted_faults.in_dtype("bfloat16"),
        {"dtype": "float32"},
        "precision: computed in bfloat16 and returned as float32",
    ),
    # dropout
    "dropout off": (with_values(dropout_masks=lambda dropout_masks: None), {"layer": DROPPING}, "dropout is off"),
    "dropout not scaled": (
        with_values(dropout_masks=lambda dropout_masks: {name: (mask > 0) * 1.0 for name, mask in dropout_masks.items()}),
        {"layer": DROPPING},
        "dropout masks are not scaled",
    ),
    "inputs' dropout not scaled": (
        with_values(dropout_masks=lambda dropout_masks: dropout_masks | {"inputs": dropout_masks["inputs"] * 0.7}),
        {"layer": DROPPING},
        "dropout masks of the inputs are not scaled",
    ),
    "recurrent dropout scaled twice": (
        with_values(dropout_masks=lambda dropout_masks: dropout_masks | {"recurrent": dropout_masks["recurrent"] / 0.6}),
        {"layer": DROPPING},
        "dropout masks of the recurrent part are scaled twice",
    ),
    "one mask": (
        with_values(
            dropout_masks=lambda dropout_masks: dropout_masks | {"recurrent": np.stack([dropout_masks["recurrent"][0]] * 4)}
        ),
        {"layer": DROPPING},
        "one dropout mask of the recurrent part is used for all gates",
    ),
    "dropout of the outputs on": (planted_faults.outputs_dropped, {}, "dropout is left on"),
    "dropout of the inputs on": (planted_faults.dropping(dropout=0.5), {}, "dropped from the inputs, scaled by 2"),
    # structure
    "layers": (with_values(params=lambda p: p[::-1]), {"layer": STACK, "features": 4}, "the layers are in reverse order"),
    "directions": (
        with_values(params=lambda p: {"forward": p["backward"], "backward": p["forward"]}),
        {"layer": BIDIRECTIONAL},
        "the parameters of the directions are swapped",
    ),
    "merged the other way": (
        planted_faults.two_directions(lambda forward, backward: np.concatenate([backward, forward], -1)),
        {"layer": BIDIRECTIONAL},
        "the outputs of the directions are joined in the other order",
    ),
    "backward not flipped": (
        planted_faults.two_directions(lambda forward, backward: np.concatenate([forward, backward[:, ::-1]], -1)),
        {"layer": BIDIRECTIONAL},
        "the outputs of the backward direction are left in reverse order",
    ),
    "summed": (
        planted_faults.two_directions(lambda forward, backward: forward + backward),
        {"layer": Bidirectional(LSTM(4), "ave")},
        "the directions are merged by 'sum'",
    ),
}


def diagnosis_of(plant, options):
    problem = small_problem(**options)
    return diagnose(problem, plant(problem, draw(problem)))


IN_EVERY_PRECISION = ("f and g swapped", "forget bias again", "direction", "mask")


@pytest.mark.table(quick=5)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "bfloat16") for name in LOADED] + [(name, dtype) for name in IN_EVERY_PRECISION for dtype in ("float32", "float64")],
)
def test_a_common_fault_is_diagnosed_in_every_precision(name, dtype):
    """The first cause is the right one even in bfloat16, where rounding covers most of the evidence."""
    plant, options, says = LOADED[name]
    assert diagnosis_of(plant, options | {"dtype": dtype}).causes[0].endswith(says)


@pytest.mark.table(quick=6)
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_diagnosed(name):
    """The first cause is the right one. Others may fit these numbers equally well."""
    plant, options, says = PLANTS[name]
    assert says in diagnosis_of(plant, options).causes[0]


def test_rounding_that_grows_is_called_so():
    """The weights make a change of the last bit grow tenfold every few steps."""
    problem = Problem(LSTM(4), dtype="float64", time=60, params=_chaotic())
    diagnosis = diagnose(problem, planted_faults.perturbed(problem, draw(problem)))
    assert diagnosis.causes[0].startswith("difference starts at step ")
    assert diagnosis.causes[0].endswith(" and grows: rounding")
    assert 0 < diagnosis.growth.first < 60


def _chaotic():
    rng = np.random.default_rng(5)
    return {
        "kernel": rng.normal(size=(3, 16)),
        "recurrent_kernel": rng.normal(scale=6, size=(4, 16)),
        "bias": np.repeat([0.0, 2, 0, 2], 4),
    }
