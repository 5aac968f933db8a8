"""The side-by-side runs: both sides compute the same, and the tables say what was measured."""

import importlib
import json

import numpy as np
import pytest

from benchmarks.systems import __main__ as cli
from benchmarks.systems import draw, exchange, ours, report, side, tables
from benchmarks.systems.problem import FIRST, Problem
from compilation import FAST
from jlstm.data import Buckets, Corpus, Minibatches, Ragged, ReviewDataset, Reviews
from parity import peers

pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.loose,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's LearningRateScheduler and NumPy 2
]


@pytest.fixture
def theirs():
    """Return the module of Keras's side. The peer is imported first, so that TensorFlow has the settings of the parity tests."""
    peers.load("keras")
    return importlib.import_module("benchmarks.systems.theirs")


def zipf(seed, count, words):
    """Return words of which a few are frequent and most are rare, as in a real text."""
    return np.random.default_rng(seed).zipf(1.5, count).clip(max=words).astype(np.int32) - 1


def small_language(monkeypatch):
    """Shrink the language model to six units and windows of five words. Its norm clips every gradient."""
    module = importlib.import_module("04_language_model")
    corpus = Corpus(zipf(1, 403, 30), zipf(2, 100, 30), zipf(3, 100, 30), tuple("abcdefghijklmnopqrstuvwxyzABCD"))
    monkeypatch.setattr(module, "ptb", lambda _: corpus)
    monkeypatch.setitem(
        module.SIZES, ("ptb", "small"), module.SIZES["ptb", "small"]._replace(units=6, steps=5, batch=4, clip=0.5)
    )


def small_reviews(monkeypatch):
    """Replace the reviews by some with 40 different words. Some are shorter than 40 words and some are longer."""
    lengths = np.random.default_rng(4).integers(2, 60, 100)
    tokens = Ragged.of([zipf(number, length, 39) + 1 for number, length in enumerate(lengths)])
    reviews = Reviews(tokens, (np.arange(100) % 2).astype(np.int32))
    monkeypatch.setattr(importlib.import_module("common.reviews"), "imdb", lambda *_, **__: ReviewDataset(reviews, reviews))


REVIEWS = ("--words", "41", "--length", "40", "--batch", "8", "--steps", "5")
SMALL = {
    "sentiment": (small_reviews, (*REVIEWS, "--keep", "1")),
    "imdb": (small_reviews, REVIEWS),
    "language": (small_language, ("--steps", "5")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_both_sides_compute_the_same(name, theirs, monkeypatch, tmp_path):
    """Five steps from the same weights have the same losses to a few roundings of float32, and so do the weights at the end.

    Another epsilon, learning rate, norm or order of the batches shows: it moves these losses by 1e-4 and more.
    """
    monkeypatch.syspath_prepend(side.ROOT / "examples")
    shrink, arguments = SMALL[name]
    shrink(monkeypatch)
    problem = Problem(tmp_path, name, 0, arguments)
    problem.write("draw", draw.run(problem))
    here, there = ours.run(problem), theirs.run(problem)
    assert len(here.first_losses) == FIRST
    np.testing.assert_allclose(here.first_losses, there.first_losses, rtol=2e-6)
    np.testing.assert_allclose(here.test_loss, there.test_loss, rtol=1e-5)
    assert here.figure == pytest.approx(there.figure, rel=1e-5)
    assert (here.steps, here.steps_an_epoch) == (there.steps, there.steps_an_epoch)


def test_repeated_words_are_added_before_they_are_squared(theirs):
    """Three gradients of 1 for one word add 9 to Adam's second moment, the square of their sum. Keras's own Adam adds 3."""
    keras, tf, optimizers = theirs.keras, theirs.tf, theirs.optimizers
    moments = []
    for kind in (optimizers.SAME.Adam, optimizers.STOCK.Adam):
        embedding, adam = keras.Variable(np.zeros((2, 1), np.float32)), kind(beta_2=0.9)
        repeated = tf.IndexedSlices(tf.ones((3, 1)), tf.constant([1, 1, 1]), tf.constant([2, 1]))
        adam.apply([repeated], [embedding])
        moments.append(adam._velocities[0].numpy().ravel() / 0.1)
    np.testing.assert_allclose(moments[0], [0, 9], rtol=1e-6)
    np.testing.assert_allclose(moments[1], [0, 3], rtol=1e-6)  # once this fails, Keras needs no help any more


def test_weights_without_counterpart_are_told(theirs):
    """The error names the weights that only one side has."""
    keras = theirs.keras
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
    with pytest.raises(ValueError, match=r"same weights.*head\.bias.*head\.kernel.*tail\.bias"):
        theirs.models.load(model, {"tail.bias": np.zeros(2)})


def test_data_is_exchanged_in_the_order_of_training():
    """Each example is exchanged once, in the order of the pass. Those that fill up the last batch are left out."""
    batches = Minibatches({"x": np.arange(10), "y": np.arange(20).reshape(10, 2)}, 4, seed=3)
    for number in (0, 1):
        whole = exchange.joined(exchange.pack(draw.counted(batches, number, 3)))
        assert sorted(whole["x"]) == list(range(10))
        np.testing.assert_array_equal(whole["y"], whole["x"][:, None] * 2 + [0, 1])
        first = next(batches.epoch(number)).examples["x"]
        np.testing.assert_array_equal(whole["x"][:4], first)
        (only,) = exchange.unpack(exchange.pack(draw.counted(batches, number, 1)))
        np.testing.assert_array_equal(only["x"], first)


def test_batches_of_several_widths_are_exchanged_one_by_one(theirs):
    """Each batch comes back equal and reaches Keras in the same order. Batches of different widths are not joined."""
    batches = draw.counted(Buckets(Ragged.of([[1, 2, 3], [4], [5, 6], [7]]), [0, 1, 2, 3], size=2, widths=(2, 3)), 0, 3)
    packed = exchange.pack(batches)
    assert exchange.joined(packed) is None
    assert exchange.input_shape(packed) == [None]
    for before, after in zip(batches, exchange.unpack(packed), strict=True):
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array)
    given = theirs.data(packed, lambda batch: (batch["tokens"], batch["labels"]), 2)["x"]
    assert len(given) == 3
    for before, (tokens, labels) in zip(batches, given, strict=True):
        np.testing.assert_array_equal(tokens, before["tokens"])
        np.testing.assert_array_equal(labels, before["labels"])
    assert len(theirs.data(packed, lambda batch: (batch["tokens"], batch["labels"]), 2, count=1)["x"]) == 1


@pytest.fixture
def sides(monkeypatch):
    """Replace both sides by functions that return at once, with half of Keras's time for ours, and record the calls."""
    noted = []

    def run(name, problem):
        noted.append((name, problem))
        seconds, loss = {
            "jlstm": (30.0, 0.5),
            "keras": (60.0, 0.5 * (1 + sides.apart)),
            "draw": (0.0, 0.0),
            report.STOCK: (60.0, 9.9),
        }[name]
        counts = {"steps": 300, "steps_an_epoch": 150, "steps_per_call": 1, "peak_bytes": 700_000_000}
        times = {"first_step_seconds": 2.0, "seconds": seconds, "seconds_of_each": [seconds], "load_before": 0.0}
        losses = {"first_losses": [loss] * FIRST, "losses": [loss], "test_loss": loss}
        return counts | times | losses | {"figure": 0.9 + 0.01 * problem.seed}

    sides.apart, sides.noted = 1e-7, noted
    monkeypatch.setattr(side, "run", run)
    return sides


def test_sides_take_turns_and_all_is_written(sides, capsys, tmp_path):
    """jlstm runs first with even seeds and Keras with odd ones. JSON and table have figures, times and their ratio."""
    assert cli.main(["--only", "mnist", "--seeds", "3", "--out", str(tmp_path / "new" / "out.json")]) == 0
    order = [name for name, _ in sides.noted]
    assert order == ["draw", "jlstm", "keras", "draw", "keras", "jlstm", "draw", "jlstm", "keras"]
    written = json.loads((tmp_path / "new" / "out.json").read_text())
    assert [(run["seed"], run["side"]) for run in written["runs"]][:4] == [(0, "jlstm"), (0, "keras"), (1, "keras"), (1, "jlstm")]
    assert written["command"].startswith("python -m benchmarks.systems --only mnist --seeds 3")
    assert {"jax", "tensorflow", "python"} <= written["versions"].keys()
    assert written["machine"]["cores"] >= 1
    (row,) = report.rows(report.Report.of(written))
    assert (row.title, row.seconds, row.ratio) == ("MNIST, row by row, 2 epochs", (15.0, 30.0), 2.0)
    assert row.figures == ("0.9100 ± 0.0058",) * 2  # the standard error of .90, .91 and .92 is .01/√3
    printed = capsys.readouterr().out
    for words in ("0.9100 ± 0.0058", "15.0", "30.0", "2.0", "700", "1e-07"):
        assert words in printed


def test_two_different_trainings_are_no_comparison(sides, capsys, tmp_path):
    """Losses that differ by a thousandth end the run with exit status 1."""
    sides.apart = 1e-3
    assert cli.main(["--only", "mnist", "--seeds", "1", "--out", str(tmp_path / "out.json")]) == 1
    assert "1e-03 apart" in capsys.readouterr().err


def test_keras_with_its_own_optimizers_is_a_third_run(sides, capsys, tmp_path):
    """`--stock` adds a run to each seed of the systems that it names. Its figure is printed, and its losses may differ."""
    out = tmp_path / "out.json"
    assert cli.main(["--only", "imdb", "mnist", "--stock", "imdb", "--seeds", "2", "--out", str(out)]) == 0
    order = [name for name, _ in sides.noted]
    imdb, mnist = order[:8], order[8:]
    assert imdb == ["draw", "jlstm", "keras", report.STOCK, "draw", "keras", "jlstm", report.STOCK]
    assert report.STOCK not in mnist
    written = json.loads(out.read_text())
    assert [row.stock for row in report.rows(report.Report.of(written))] == [None, "0.9050 ± 0.0050"]
    assert "its own optimizer" in capsys.readouterr().out


def test_options_reach_the_examples(sides, tmp_path):
    """Arguments after `--` end the command line of the example. Those of `--quick` come before them."""
    assert cli.main(["--quick", "--only", "mnist", "--out", str(tmp_path / "out.json"), "--", "--batch", "32"]) == 0
    _, problem = sides.noted[0]
    quick = ["--dataset", "digits", "--steps", "20"]
    assert problem.arguments[:-1] == ["--steps", "300", *quick, "--batch", "32", "--seed", "0", "--out"]
    assert problem.test_batches == 3


def test_readme_has_the_committed_table():
    """The table in README is the one that the command makes from the committed results."""
    if not cli.COMMITTED.exists():
        pytest.skip("no results are committed yet")
    text = cli.README.read_text(encoding="utf-8")
    assert text == tables.into(text, report.Report.of(json.loads(cli.COMMITTED.read_text(encoding="utf-8")))), (
        "run python -m benchmarks.systems --readme"
    )


def test_table_goes_between_the_marks(sides, monkeypatch, capsys, tmp_path):
    """The table is replaced each time and the text around it stays. A README without the marks is refused in one sentence."""
    monkeypatch.setattr(cli, "COMMITTED", tmp_path / "systems.json")
    monkeypatch.setattr(cli, "README", tmp_path / "README.md")
    assert cli.main(["--readme"]) == 1
    assert "there are no results to write" in capsys.readouterr().err
    cli.main(["--only", "mnist", "--seeds", "1", "--out", str(cli.COMMITTED)])
    cli.README.write_text("before\n<!-- systems -->\nold\n<!-- /systems -->\nafter\n")
    for _ in range(2):
        assert cli.main(["--readme"]) == 0
    lines = cli.README.read_text().splitlines()
    assert (lines[:2], lines[-2:]) == (["before", tables.BEGIN], [tables.END, "after"])
    assert "| MNIST, row by row, 2 epochs | 0.9000 / 0.9000 | 15.0 / 30.0 | 2.0 | 700 / 700 |" in lines
    assert "old" not in lines
    cli.README.write_text("nothing\n")
    assert cli.main(["--readme"]) == 1
    assert "README.md must have the lines <!-- systems -->" in capsys.readouterr().err


def test_wrong_usage_is_told(capsys):
    """The command exits with status 2 and a sentence before anything runs."""
    for arguments, words in ((["--seeds", "0"], "--seeds must be at least 1"), (["--only", "gru"], "invalid choice: 'gru'")):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_a_quick_run_of_processes(capsys, tmp_path, monkeypatch):
    """Twenty steps on real digits, in three processes as for the committed results, give figures, memory and equal losses."""
    monkeypatch.setenv("XLA_FLAGS", " ".join(FAST))
    assert cli.main(["--quick", "--only", "mnist", "--out", str(tmp_path / "out.json")]) == 0
    here, there = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert (here["side"], there["side"]) == ("jlstm", "keras")
    assert here["figure"] == pytest.approx(there["figure"], abs=0.01)
    assert here["figure"] > 0.4
    for run in (here, there):
        assert run["example"] == "python examples/01_mnist.py --steps 300 --dataset digits --steps 20 --seed 0"
        assert run["seconds"] > 0
        assert 100e6 < run["peak_bytes"] < 10e9
    assert "MNIST" in capsys.readouterr().out


def test_a_side_that_fails_is_told_in_one_sentence(capsys, tmp_path):
    """The sentence contains the error of the process that failed."""
    status = cli.main(["--only", "mnist", "--out", str(tmp_path / "out.json"), "--", "--data-dir", str(tmp_path / "nowhere")])
    assert status == 1
    error = capsys.readouterr().err
    assert error.startswith("error: draw could not run python examples/01_mnist.py --steps 300: ")
    assert "nowhere" in error
    assert error.count("\n") == 1
