"""The output of the examples is stored word for word, and a failed run is not stored."""

import json

import pytest

from benchmarks import figures

pytestmark = pytest.mark.no_cover


@pytest.mark.slow
def test_what_an_example_prints_is_kept_beside_what_was_there(tmp_path, monkeypatch, capsys):
    """A new run replaces the entry of its name. Others stay, in the list's order."""
    names = {"other": "none.py", "digits": "01_mnist.py --dataset digits --steps 20"}
    monkeypatch.setattr(figures, "FIGURES", names)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "figures.json"
    other_figure = {"printed": ["kept"], "command": "python other.py", "date": "2026-01-02T03", "commit": "abc", "seconds": 4.4}
    path.write_text(json.dumps({"other": other_figure, "digits": {"printed": ["old"]}, "unlisted": {}}))
    assert figures.main(["digits", "--out", str(path)]) == 0
    written = json.loads(path.read_text())
    assert list(written) == ["other", "digits"]
    assert written["other"] == other_figure
    figure = written["digits"]
    assert figure["command"] == "python examples/01_mnist.py --dataset digits --steps 20"
    assert figure["printed"][0].startswith("Step 20: train accuracy")
    assert figure["printed"][-1].startswith("Test accuracy: 0.")
    assert 0 < figure["seconds"] < 600
    page = path.with_suffix(".md").read_text()
    assert "## other\n\n`python other.py`, 2026-01-02, commit abc, 4 seconds\n\n```text\nkept\n```\n\n## digits\n" in page
    assert page.endswith(f"{figure['printed'][-1]}\n```\n")
    assert capsys.readouterr().out == f"digits: {figure['printed'][-1]} ({figure['seconds']:.0f} s)\n"


def test_an_example_that_fails_is_told(tmp_path, monkeypatch, capsys):
    """The error is the example's own sentence, and the exit status is 1."""
    monkeypatch.setattr(figures, "FIGURES", {"wrong": "01_mnist.py --steps 0"})
    monkeypatch.chdir(tmp_path)
    (path := tmp_path / "figures.json").write_text(content := '{"wrong": {"printed": ["Test accuracy: 0.9"]}}')
    assert figures.main(["--out", str(path)]) == 1
    assert path.read_text() == content
    assert "error: --steps must be at least 1, got 0" in capsys.readouterr().err


def test_an_unknown_name_is_one_sentence(capsys):
    """The sentence lists the known names."""
    with pytest.raises(SystemExit):
        figures.main(["nothing"])
    assert "there is no nothing: choose among mnist, " in capsys.readouterr().err
