"""`--help` of the examples says what they do and lists their options. test_language.py asks a process of its own for it."""

import pytest
import tyro

from scripts import imported

pytestmark = pytest.mark.no_cover
OF_ALL = ("--data-dir", "--devices", "--epochs", "--out", "--resume", "--seed", "--steps")
SCRIPTS = {
    "01_mnist": ("MnistOptions", "Train an LSTM", "--dataset {mnist,digits}", "--permuted", "--seeds"),
    "02_sentiment": ("SentimentOptions", "Train the two-layer network", "--keep", "--learning-rate", "--test", "--predict"),
    "03_imdb": ("ImdbOptions", "the defaults are Keras's", "--masked", "--best", "--seeds", "--predict"),
    "05_forecast": ("ForecastOptions", "compare with naive forecasts", "--months", "--hide", "--window"),
    "07_translation": (
        "TranslationOptions",
        "decoder with attention",
        "--task {dates,reverse}",
        "--score",
        "--beams",
        "--predict",
    ),
    "06_long_memory": ("MemoryOptions", "on a memory task", "--task {adding,copy}", "--length", "--rnn-lr"),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_explains_every_option(script, monkeypatch, capsys):
    """`--help` lists all options and says what the script does."""
    options, *texts = SCRIPTS[script]
    with pytest.raises(SystemExit) as end:
        tyro.cli(getattr(imported(monkeypatch, script), options), args=["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    for text in (*OF_ALL, *texts):
        assert text in printed
