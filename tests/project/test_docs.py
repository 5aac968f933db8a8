"""The code on the pages of docs runs, and their tables are true."""

import ast
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import features
from features import FEATURES, PAGE
from jlstm._src.arguments import INSTEAD

TESTS = PAGE.parents[1] / "tests"


@pytest.mark.parametrize("proof", sorted({feature.proof for feature in FEATURES}))
def test_the_test_that_a_feature_names_exists(proof):
    """Each row's test exists: a renamed test would leave a claim without proof."""
    file, name = proof.split("::")
    functions = [node.name for node in ast.parse((TESTS / f"{file}.py").read_text()).body if isinstance(node, ast.FunctionDef)]
    assert name in functions


def test_the_table_is_the_one_in_the_page():
    """The page has the table that `python tests/support/features.py` writes."""
    page = PAGE.read_text(encoding="utf-8")
    assert features.into(page) == page


def run(page):
    """Run the Python blocks of a page, as they stand there."""
    blocks = re.findall(r"```python\n(.*?)```", (PAGE.parent / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    exec("\n".join(blocks), scope := {})
    return scope


def test_the_example_of_cells_runs():
    """The code of the cells page prints the outputs that the page shows."""
    assert run("cells")["ys"].shape == (8, 15, 32)


def test_the_page_for_newcomers_runs():
    """The page's assertions hold, and every argument in its tables is either ours or answered."""
    scope = run("coming_from")
    assert scope["logits"].shape == (2, 2)
    assert scope["ys"].shape == (4, 2, 5, 10)
    text = (PAGE.parent / "coming_from.md").read_text(encoding="utf-8")
    missing = {"num_layers", "bidirectional", "batch_first", "proj_size", "return_sequences", "return_state", "stateful"}
    missing |= {"go_backwards", "initial_state", "training", "unit_forget_bias", "seq_lengths", "segmentation_mask"}
    assert all(name in text for name in missing & INSTEAD.keys())
    assert missing <= INSTEAD.keys()


@pytest.mark.loose
def test_the_model_of_the_page_on_flax_is_run_by_jlstm(capsys):
    """The page's Flax model has outputs, and `explain` prints a line for each direction."""
    scope = run("compat_flax")
    assert scope["logits"].shape == (8, 2)
    assert len(re.findall(r"LSTMCell\(units=64\) is run by (?!flax)", capsys.readouterr().out)) == 2


def test_the_example_of_introspect_draws(tmp_path, monkeypatch):
    """The page on introspection draws four pictures."""
    monkeypatch.chdir(tmp_path)
    scope = run("introspect")
    assert scope["upper"].f.shape == (2, 96, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "flow.png", "gates.png", "saturation.png"]


@pytest.mark.loose
def test_the_training_loop_learns(tmp_path, monkeypatch, capsys):
    """The training loop of the page classifies most digits correctly."""
    monkeypatch.chdir(tmp_path)
    run("training")
    assert float(capsys.readouterr().out) > 0.9


@pytest.mark.xdist_group("tensorflow")
@pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter is deprecated:UserWarning")
def test_converted_weights_are_the_same(tmp_path, monkeypatch, x64):
    """Weights go from Keras to PyTorch, back, and through files. The exported programs compute the same."""
    monkeypatch.chdir(tmp_path)
    scope = run("convert")
    assert_exported_the_same(scope["tf"], scope["run"])
    assert scope["layer"] == scope["again"]
    for ours, theirs in zip(("kernel", "recurrent_kernel", "bias"), scope["weights"], strict=True):
        np.testing.assert_array_equal(scope["params"][ours], theirs.astype(np.float32))
        np.testing.assert_array_equal(scope["same"][ours], theirs)


def assert_exported_the_same(tf, run):
    """Assert that the three exported files compute the same, in the size that all of them take."""
    xs, lengths = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32), np.array([5, 2], np.int32)
    lite = tf.lite.Interpreter("lstm.tflite")
    lite.allocate_tensors()
    for detail in lite.get_input_details():
        lite.set_tensor(detail["index"], xs if len(detail["shape"]) == 3 else lengths)
    lite.invoke()
    for ys in (
        jax.export.deserialize(Path("lstm.stablehlo").read_bytes()).call(xs, lengths),
        tf.saved_model.load("saved_model").run(xs, lengths),
        lite.get_tensor(lite.get_output_details()[0]["index"]),
    ):
        np.testing.assert_allclose(ys, run(xs, lengths), rtol=1e-6, atol=1e-6)  # other code for the same float32 formulas
