"""The code on the pages of docs runs, and their tables are true."""

import ast
import inspect
import re
from functools import reduce
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import pytest

import coming_from
import features
import jlstm
from features import FEATURES, PAGE
from frameworks import FRAMEWORKS
from jlstm._src.arguments import INSTEAD

pytestmark = pytest.mark.no_cover
DOCS = PAGE.parent
TESTS = DOCS.parent / "tests"
# Pages with tests of their own, which also check the results: below and, for the drop-ins for Keras, in tests/compat/keras.
CHECKED = ("compat_flax", "compat_keras", "convert", "export", "gallery", "introspect", "training")
# Arguments that are no options: what is run, and what Python or the framework needs for itself.
NOT_OPTIONS = {"self", "args", "kwargs", "name", "parent", "mode", "cell", "core", "inputs", "input_sequence", "sequences"}
NOT_OPTIONS |= {"kernel_metadata", "recurrent_kernel_metadata", "bias_metadata", "promote_dtype", "keep_rngs", "init_key"}
MISSING = [name for name in ("torch", "onnx", "haiku", "equinox") if find_spec(name) is None]  # in the extra "peers"


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


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.page)
def test_the_tables_for_newcomers_are_those_in_the_pages(framework):
    """The pages have the tables that `python tests/support/coming_from.py` writes, also from the docstrings."""
    page = (coming_from.PAGES / f"{framework.page}.md").read_text(encoding="utf-8")
    assert coming_from.into(framework, page) == page
    options = {name for row in framework.rows for name in row.options}
    assert options <= {*inspect.signature(jlstm.LSTM).parameters, *inspect.signature(jlstm.Layer.apply).parameters}


@pytest.mark.xdist_group("tensorflow")
@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.page)
def test_every_argument_of_a_framework_is_in_its_table(framework):
    """The tables have all arguments of the framework's LSTM and of what runs it, and the error messages answer them."""
    written = set(re.findall(r"\w+", " ".join(row.theirs for row in framework.rows)))
    ours = {"features", *inspect.signature(jlstm.LSTM).parameters, *inspect.signature(jlstm.Layer.apply).parameters}
    for place in framework.callables:
        module, _, names = place.partition(":")
        function = reduce(getattr, names.split("."), pytest.importorskip(module))
        arguments = inspect.signature(function).parameters.keys() - NOT_OPTIONS
        assert arguments - written == set(), place
        assert arguments - ours - INSTEAD.keys() == set(), place


def code(path):
    """Return the Python blocks of a page, in order."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


def run(page):
    """Run the Python blocks of a page in one namespace, as they stand there."""
    exec(compile(code(DOCS / f"{page}.md"), f"{page}.md", "exec"), scope := {})
    return scope


def pages():
    """Yield the pages with Python blocks, with their marks. Tutorials are left out, since they run when the site is built."""
    for path in sorted(DOCS.rglob("*.md")):
        page = path.relative_to(DOCS).with_suffix("").as_posix()
        if page in CHECKED or page.startswith(("tutorials/", "_build/")) or not (text := code(path)):
            continue
        missing = [name for name in MISSING if f"import {name}" in text or f"from {name}" in text]
        # README's `just test` runs without these packages. CI has all of them.
        marks = [pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")]
        marks += [pytest.mark.xdist_group("tensorflow")] if re.search("tensorflow|keras", text) else []
        yield pytest.param(page, marks=marks)


def test_links_work_on_a_code_host():
    """Each relative link in README, CONTRIBUTING, CHANGELOG and the pages leads to a file. Sphinx checks those of the site."""
    for path in (*DOCS.parent.glob("*.md"), *DOCS.rglob("*.md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_code_fits_the_pages():
    """No line of code is wider than the text of the site, so that readers see all of it."""
    wide = [line for path in DOCS.rglob("*.md") for line in code(path).splitlines() if len(line) > 92]
    assert not wide


@pytest.mark.loose
@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in a future version:UserWarning")  # TensorFlow 1's cells
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # Keras saves a file
@pytest.mark.parametrize("page", list(pages()))
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """The examples of each page run from top to bottom, and their assertions hold."""
    monkeypatch.chdir(tmp_path)
    run(page)


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


@pytest.mark.slow  # tests/plot draws the same kinds of pictures
def test_the_gallery_shows_what_its_code_draws(tmp_path, monkeypatch):
    """The pictures on the page are those that its code saves, and they are committed: `python docs/draw.py` draws them."""
    monkeypatch.chdir(tmp_path)
    run("gallery")
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == set(re.findall(r"\(pictures/(.*?)\)", (DOCS / "gallery.md").read_text(encoding="utf-8")))
    assert drawn <= {path.name for path in (DOCS / "pictures").iterdir()}


@pytest.mark.loose
def test_the_training_loop_learns(tmp_path, monkeypatch, capsys):
    """The training loop of the page classifies most digits correctly."""
    monkeypatch.chdir(tmp_path)
    run("training")
    assert float(capsys.readouterr().out) > 0.9


@pytest.mark.loose
@pytest.mark.xdist_group("tensorflow")
@pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter is deprecated:UserWarning")
def test_exported_programs_compute_the_same(tmp_path, monkeypatch):
    """The files that the page on export writes compute what the layer computes."""
    pytest.importorskip("onnx")  # the extra "peers"
    monkeypatch.chdir(tmp_path)
    scope = run("export")
    assert_exported_the_same(scope["tf"], scope["run"])


def test_converted_weights_are_the_same(tmp_path, monkeypatch, x64):
    """Weights go from Keras to PyTorch, back, and through files."""
    pytest.importorskip("onnx")  # the extra "peers"
    monkeypatch.chdir(tmp_path)
    scope = run("convert")
    assert scope["layer"] == scope["again"]
    for ours, theirs in zip(("kernel", "recurrent_kernel", "bias"), scope["weights"], strict=True):
        np.testing.assert_array_equal(scope["params"][ours], theirs)
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
