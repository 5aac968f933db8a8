"""The pages of docs say what is so."""

import ast
import re

import numpy as np
import pytest

import features
from features import FEATURES, PAGE

TESTS = PAGE.parents[1] / "tests"


@pytest.mark.parametrize("proof", sorted({feature.proof for feature in FEATURES}))
def test_the_test_that_a_feature_names_exists(proof):
    """A renamed test would leave a claim without proof."""
    file, name = proof.split("::")
    functions = [node.name for node in ast.parse((TESTS / f"{file}.py").read_text()).body if isinstance(node, ast.FunctionDef)]
    assert name in functions


def test_the_table_is_the_one_in_the_page():
    """Written by `python tests/features.py`."""
    page = PAGE.read_text(encoding="utf-8")
    assert features.into(page) == page


def run(page):
    """The Python of a page, as it stands there."""
    blocks = re.findall(r"```python\n(.*?)```", (PAGE.parent / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    exec("\n".join(blocks), scope := {})
    return scope


def test_the_example_of_cells_runs():
    """With the outputs that it asks for."""
    assert run("cells")["ys"].shape == (8, 15, 32)


@pytest.mark.loose
def test_the_training_loop_learns(tmp_path, monkeypatch, capsys):
    """Most digits."""
    monkeypatch.chdir(tmp_path)
    run("training")
    assert float(capsys.readouterr().out) > 0.9


def test_converted_weights_are_the_same(tmp_path, monkeypatch, x64):
    """From Keras to PyTorch, back, and through a file."""
    monkeypatch.chdir(tmp_path)
    scope = run("convert")
    assert scope["layer"] == scope["again"]
    for ours, theirs in zip(("kernel", "recurrent_kernel", "bias"), scope["weights"], strict=True):
        np.testing.assert_array_equal(scope["params"][ours], theirs)
        np.testing.assert_array_equal(scope["same"][ours], theirs)
