"""Pictures show the numbers that they get, in given axes or new ones."""

import subprocess
import sys
from functools import partial
from io import BytesIO
from typing import NamedTuple

import jax
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from jlstm import GRU, LSTM, RNN, Bidirectional, ConvLSTMCell, LSTMCarry, Stack, plot
from jlstm.cells import LSTMGates
from jlstm.introspect import Saturation, Trace, gradient_flow, saturation, trace
from jlstm.plot.axes import BLUE, ORANGE
from jlstm.train import Record
from problems import small_problem

RANDOM = np.random.default_rng(0)
LAYER = LSTM(4)
PARAMS = LAYER.init(jax.random.key(0), features=3)
TRACE = trace(LAYER, PARAMS, RANDOM.normal(size=(2, 6, 3)).astype(np.float32))
SHARES = saturation(TRACE, 0.4, 0.6)
TEXT = ["not", "a", "bad", "film", "at", "all"]
SCORES = np.array([0.2, 0.3, 0.1, 0.4, 0.5, 0.9])
HISTORY = [
    Record(10, 1.0, {"loss": 3.0, "grad_norm": 1.0}, {"loss": 2.5}, 1.0, 1.0),
    Record(20, 2.0, {"loss": 2.0, "grad_norm": 0.5}, {"loss": 2.4}, 1.0, 1.0),
]
VECTORS = RANDOM.normal(size=(30, 5)) * [9, 3, 1, 1, 1]
LABELS = [f"word{k}" for k in range(30)]
WEIGHTS = RANDOM.dirichlet(np.ones(6), size=5)

PICTURES = {
    "gates": lambda ax: plot.gates(TRACE, labels=TEXT, ax=ax),
    "curves": lambda ax: plot.curves(HISTORY, ax=ax),
    "flow": lambda ax: plot.flow({"LSTM": SCORES, "RNN": SCORES**9}, ax=ax),
    "scores": lambda ax: plot.scores(TEXT, SCORES, ax=ax),
    "saturation": lambda ax: plot.saturation(SHARES, ax=ax),
    "embeddings": lambda ax: plot.embeddings(VECTORS, LABELS, ax=ax),
    "attention": lambda ax: plot.attention(WEIGHTS, TEXT[:4], TEXT[:3], ax=ax),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_drawn_where_it_should_be(name):
    """Pictures go into given axes, of a figure or subfigure, or into a new figure that can be saved."""
    for figure in (Figure(), Figure().subfigures()):
        ax = figure.subplots()
        assert PICTURES[name](ax) is ax
    content = BytesIO()
    PICTURES[name](None).figure.savefig(content)
    assert content.getvalue().startswith(b"\x89PNG")
    assert len(content.getvalue()) > 5_000


def colors(ax, text):
    """Return the colors of all artists with this label."""
    return {to_hex(line.get_color()) for line in ax.lines if text in line.get_label()}


def test_gates_are_a_row_a_unit_and_a_column_a_step():
    """One block for each gate, in the given order, shows the chosen sequence up to the last label."""
    ax = plot.gates(TRACE, "gof", labels=TEXT[:5], sequence=1)
    blocks = sorted(ax.images, key=lambda image: image.get_extent()[3])
    for image, name in zip(blocks, "gof", strict=True):
        np.testing.assert_allclose(image.get_array(), np.asarray(getattr(TRACE, name))[1, :5].T)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["candidate g", "output gate o", "forget gate f"]
    assert [label.get_text() for label in ax.get_xticklabels()] == TEXT[:5]
    assert [image.get_clim() for image in blocks] == [(-1, 1), (0, 1), (0, 1)]


def test_gates_of_a_single_sequence():
    """A batch axis is not needed. Unbounded cell states are scaled by the largest one."""
    single = jax.tree.map(lambda leaf: leaf[1], TRACE)
    (image,) = plot.gates(single, "c").images
    largest = np.abs(single.c).max()
    assert image.get_clim() == pytest.approx((-largest, largest))
    assert image.get_array().shape == (4, 6)


def test_many_words_are_thinned_out():
    """Labels are thinned out so that none overlaps another."""
    ax = plot.scores([f"word{k}" for k in range(700)], np.linspace(0, 1, 700))
    steps = np.diff(ax.get_xticks())
    assert len(set(steps)) == 1
    assert 2 <= steps[0] <= 10


def test_curves_have_the_records_points():
    """Training and validation are drawn against the step. A metric without validation has one curve."""
    loss_axes, grad_norm_axes = plot.curves(HISTORY), plot.curves(HISTORY, "grad_norm")
    np.testing.assert_array_equal([line.get_xydata() for line in loss_axes.lines], [[[10, 3], [20, 2]], [[10, 2.5], [20, 2.4]]])
    assert (colors(loss_axes, "training"), colors(loss_axes, "validation")) == ({BLUE.lower()}, {ORANGE.lower()})
    np.testing.assert_array_equal([line.get_xydata() for line in grad_norm_axes.lines], [[[10, 1], [20, 0.5]]])
    assert grad_norm_axes.get_ylabel() == "grad norm"


def test_loops_of_ones_own_have_curves():
    """Plain dicts, flat or in parts, and records with only some fields have curves."""
    flat = [{"step": 10, "loss": 3.0}, {"step": 20, "loss": 2.0}]
    parts = [{"step": record.step, "train": record.train, "validation": record.validation} for record in HISTORY]
    short = [Record(record.step, train=record.train, validation=record.validation) for record in HISTORY]
    np.testing.assert_array_equal(plot.curves(flat).lines[0].get_xydata(), [[10, 3], [20, 2]])
    for history in (parts, short):
        for line, expected in zip(plot.curves(history).lines, plot.curves(HISTORY).lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), expected.get_xydata())


def test_padding_is_hatched_and_not_the_color_of_a_shut_gate():
    """Padded cells are masked, a hatched span covers each run of them, and the title counts them."""
    mask = np.array([[False, True, True, False, False, True]])
    gate_trace = trace(LAYER, PARAMS, np.ones((1, 6, 3), np.float32), mask=mask)
    ax = plot.gates(gate_trace, "f")
    (image,), (spans,) = ax.images, ax.collections
    np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), np.broadcast_to(~mask, (4, 6)))
    assert spans.get_hatch() == "////"
    assert [path.get_extents().intervalx.tolist() for path in spans.get_paths()] == [[-0.5, 0.5], [2.5, 4.5]]
    assert "3 of them padding" in ax.get_title()


@pytest.mark.parametrize("labels", [None, ["word"] * 3000])
def test_pictures_of_long_sequences_have_a_bounded_width(labels):
    """The width is twelve inches, or twice that with words."""
    gate_trace = Trace(LSTMGates(*np.zeros((4, 3000, 1))), LSTMCarry(*np.zeros((2, 3000, 1))), np.ones(3000, bool))
    assert plot.gates(gate_trace, "i", labels=labels).figure.get_size_inches()[0] == (12 if labels is None else 24)


def test_gates_of_a_gru_are_drawn_and_gradients_as_they_come():
    """Gates go by the cell's names. A flow of several layers has a line for each norm."""
    layer = Stack((GRU(4), Bidirectional(LAYER)))
    params, xs = small_problem(layer, batch=1, time=6, dtype=np.float32)[1:3]
    of_gru, flows = jax.jit(lambda params, xs: (trace(layer, params, xs)[0], gradient_flow(layer, params, xs)))(params, xs)
    assert [label.get_text() for label in plot.gates(of_gru).get_yticklabels()] == [
        "update gate z",
        "reset gate r",
        "candidate g",
    ]
    assert len(plot.saturation(saturation(of_gru)).lines) == 3
    assert [line.get_label() for line in plot.flow(flows[0]).lines] == ["loss", "state"]
    lines = {line.get_label(): line.get_ydata() for line in plot.flow(flows).lines}
    np.testing.assert_allclose(lines["layer 1, backward, state"], flows[1]["backward"].state)
    assert len(lines) == 2 + 2 * 3


def test_flow_is_logarithmic_and_ends_at_its_floor():
    """Norms below the floor lie below the picture, and zeros are not drawn."""
    ax = plot.flow({"a": np.array([0.0, 1e-30, 1e-3, 1.0])}, floor=1e-9)
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] == pytest.approx(1e-9)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [np.nan, 1e-30, 1e-3, 1.0])
    assert plot.flow({"a": np.array([0.5, 1.0])}).get_ylim()[0] > 0.1


def test_scores_are_blue_from_the_threshold_upwards():
    """Scores below the threshold are orange. Each stands over its word."""
    ax = plot.scores(TEXT, SCORES, threshold=0.4, label="positive")
    up, down = (next(line for line in ax.lines if line.get_marker() == marker) for marker in "^v")
    np.testing.assert_array_equal(up.get_xydata(), [[3, 0.4], [4, 0.5], [5, 0.9]])
    np.testing.assert_array_equal(down.get_xydata(), [[0, 0.2], [1, 0.3], [2, 0.1]])
    assert (up.get_color(), down.get_color()) == (BLUE, ORANGE)
    assert [label.get_text() for label in ax.get_xticklabels()] == TEXT


def test_saturation_has_points_for_every_gate_of_any_cell():
    """Gates beyond the number of colors and markers are drawn too."""
    names = [f"gate{k}" for k in range(8)]
    gates = NamedTuple("Gates", [(name, np.ndarray) for name in names])
    shares = [gates(*np.full((8, 3), 0.5)) for _ in range(2)]
    ax = plot.saturation(Saturation(*shares), ax=Figure().subplots())
    assert [line.get_label().partition(":")[0] for line in ax.lines[1:]] == names


def test_attention_is_a_row_a_target_and_a_column_a_source():
    """Padding is left out, and the colors range from 0 to 1."""
    ax = plot.attention(WEIGHTS, TEXT[:4], TEXT[:3])
    [image] = ax.get_images()
    np.testing.assert_array_equal(image.get_array(), WEIGHTS[:3, :4])
    assert image.get_clim() == (0, 1)
    assert [label.get_text() for label in ax.get_xticklabels()] == TEXT[:4]
    assert [label.get_text() for label in ax.get_yticklabels()] == TEXT[:3]


def test_gates_with_spatial_axes_are_refused():
    """A picture has one axis of units, and the gates of a ConvLSTM have spatial axes besides."""
    layer = RNN(ConvLSTMCell(2, 3, (4, 4), padding="same"))
    gate_trace = jax.jit(partial(trace, layer))(*small_problem(layer, time=3)[1:3])
    with pytest.raises(ValueError, match=r"^i must be \(time, units\), got \(3, 4, 4, 2\): draw one place"):
        plot.gates(gate_trace)


def test_saturation_is_a_point_a_unit():
    """The right means shut and the top means open. The legend has the means."""
    ax = plot.saturation(SHARES, "fg")
    forget, candidate = ax.lines[1:]
    np.testing.assert_allclose(forget.get_xydata(), np.transpose([SHARES.below.f, SHARES.above.f]))
    np.testing.assert_allclose(candidate.get_xydata(), np.transpose([SHARES.below.g, SHARES.above.g]))
    assert forget.get_label() == f"forget gate f: shut {np.mean(SHARES.below.f):.0%}, open {np.mean(SHARES.above.f):.0%}"


def test_embeddings_are_projected_on_the_axes_of_largest_spread():
    """These are the covariance's eigenvectors. Of two labels at one place the farther point's stays."""
    (points,) = (line.get_xydata() for line in plot.embeddings(VECTORS, LABELS).lines)
    values, axes = np.linalg.eigh(np.cov(VECTORS.T))
    expected = (VECTORS - VECTORS.mean(0)) @ axes[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-12)
    ax = plot.embeddings(VECTORS, LABELS, most=5)
    assert f"{values[-1] / values.sum():.0%}" in ax.get_xlabel()
    texts = [text.get_text() for text in ax.texts]
    assert texts[0] == LABELS[np.argmax(np.hypot(*expected.T))]
    assert len(texts) <= 5
    twice = np.concatenate([VECTORS, VECTORS])
    assert [text.get_text() for text in plot.embeddings(twice, LABELS * 2).texts].count(texts[0]) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.gates({"forward": TRACE}), "trace must be the Trace of one layer, got a dict"),
        (lambda: plot.gates(TRACE, "ix"), "a name must be one of 'h', 'c', 'i', 'f', 'g', 'o', got 'x'"),
        (lambda: plot.gates(TRACE, labels=["a"] * 7), "labels must be at most as many as the 6 steps, got 7"),
        (lambda: plot.curves(HISTORY, "accuracy"), "that was recorded, grad_norm, loss, got 'accuracy'"),
        (lambda: plot.curves([]), "that was recorded, but nothing was, got 'loss'"),
        (lambda: plot.flow({}), "norms must hold at least one line"),
        (lambda: plot.flow(np.ones(3)), r"norms must be a result of gradient_flow or .* got an array of shape \(3,\)"),
        (lambda: plot.curves([{"loss": 1.0}]), "a record must be a jlstm.train.Record or a dict like"),
        (lambda: plot.scores(TEXT, SCORES[:3]), r"one score for each of the words, at least one, got \(3,\) for 6 words"),
        (lambda: plot.scores([], np.zeros(0)), "at least one"),
        (lambda: plot.saturation((SHARES,)), "shares must be the Saturation of one layer, got a tuple"),
        (lambda: plot.saturation(SHARES, "c"), "a name must be one of 'i', 'f', 'g', 'o', got 'c'"),
        (lambda: plot.embeddings(VECTORS, LABELS[1:]), r"with a label for each row, got \(30, 5\) and 29 labels"),
        (lambda: plot.attention(WEIGHTS[None], TEXT, TEXT), r"weights must be \(target, source\), those of one sequence"),
        (lambda: plot.attention(WEIGHTS, TEXT, TEXT), "labels must be at least 1 and at most as many as the weights"),
        (lambda: plot.embeddings(np.ones((3, 2)), ["a", "b", "c"]), "vectors must differ from each other"),
    ],
)
def test_bad_input_gives_one_sentence(call, message):
    """The sentence says what was expected."""
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_matplotlib_is_needed_only_to_draw(monkeypatch):
    """`import jlstm.plot` works without it, and drawing asks for it in one sentence."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, jlstm.plot; print('matplotlib' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "False\n"
    monkeypatch.delitem(sys.modules, "jlstm.plot.figure", raising=False)  # an earlier test may have imported it
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'drawing needs matplotlib, which is not installed: pip install "jlstm\[plot\]"'):
        plot.gates(TRACE)


def test_a_notebook_shows_the_figure():
    """The figure has the method by which IPython displays values, which returns a PNG of the figure's size."""
    figure = plot.curves(HISTORY).figure
    pixels = imread(BytesIO(figure._repr_png_()), format="png")
    assert pixels.shape[1::-1] == tuple(figure.get_size_inches() * figure.dpi)
    assert pixels.std() > 0  # not blank


def test_only_single_layers_are_drawn():
    """The traces inside a trace of several layers can be drawn."""
    layer = Bidirectional(LAYER)
    traces = jax.jit(partial(trace, layer))(*small_problem(layer, batch=1)[1:3])
    assert isinstance(traces["backward"], Trace)
    assert plot.gates(traces["backward"]).images
    assert isinstance(saturation(traces)["forward"], Saturation)
