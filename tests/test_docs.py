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


def test_the_example_runs():
    """As it stands in the page."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    scope = {}
    exec(code, scope)
    assert scope["ys"].shape == (8, 15, 32)
