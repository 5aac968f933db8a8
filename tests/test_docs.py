"""The pages of docs say what is so."""

import ast
import re

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


@pytest.mark.loose
@pytest.mark.parametrize("page", ["cells", "training"])
def test_the_example_runs(page, tmp_path, monkeypatch, capsys):
    """As it stands in the page."""
    (code,) = re.findall(r"```python\n(.*?)```", (PAGE.parent / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(code, scope)
    if page == "cells":
        assert scope["ys"].shape == (8, 15, 32)
    else:
        assert float(capsys.readouterr().out) > 0.9
