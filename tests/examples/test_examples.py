"""The examples run as scripts and write what they print, and the demo notices when the two sides differ."""

import dataclasses
import os
import re
from functools import partial
from types import ModuleType

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import jlstm
from scripts import EXAMPLES, imported, is_picture, run

pytestmark = pytest.mark.no_cover

DEMO, MNIST = EXAMPLES / "00_demo.py", EXAMPLES / "01_mnist.py"


@pytest.fixture
def training(monkeypatch) -> ModuleType:
    """The module of 01_mnist.py."""
    return imported(monkeypatch, "01_mnist")


@pytest.fixture
def demo(monkeypatch) -> ModuleType:
    """The module of 00_demo.py."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    return imported(monkeypatch, "00_demo")


@pytest.mark.slow
def test_training_by_steps_prints_and_saves_what_it_says(tmp_path):
    """Lines come every 20 steps and for each seed. The first seed's weights and picture are saved."""
    result = run(MNIST, "--dataset", "digits", "--steps", "25", "--seeds", "2", "--out", "here/deep", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    *lines, last = result.stdout.splitlines()
    step = r"Step (\d+): train accuracy [01]\.\d{4}, loss \d\.\d{4}"
    matches = [re.fullmatch(step, line) for line in lines]
    assert [int(match[1]) for match in matches if match] == [20, 25] * 2
    seeds = [float(value) for value in re.findall(r"^Seed [01]: test accuracy ([01]\.\d{4})$", result.stdout, re.MULTILINE)]
    mean, spread = map(float, re.search(r"^Mean of 2 seeds: (\S+) ± (\S+)$", result.stdout, re.MULTILINE).groups())
    assert (mean, spread) == pytest.approx((np.mean(seeds), np.std(seeds, ddof=1)), abs=2e-4)  # printed with four digits
    assert last == f"Test accuracy: {seeds[0]:.4f}"
    assert seeds[0] > 0.3
    assert is_picture(tmp_path / "here/deep/picture.png")
    weights = load_file(tmp_path / "here/deep/weights.safetensors")
    assert weights["lstm.recurrent_kernel"].shape == (128, 512)


@pytest.mark.slow
@pytest.mark.loose
def test_training_by_epochs_prints_a_line_for_each(training, tmp_path, capsys):
    """Each line has the test accuracy, and the last one is the result."""
    training.main(training.MnistOptions(dataset="digits", epochs=2, out=tmp_path))
    printed = capsys.readouterr().out
    tested = re.findall(r"^Epoch [12]: .*, test accuracy (\S+)$", printed, re.MULTILINE)
    assert len(tested) == 2
    assert printed.endswith(f"\nTest accuracy: {tested[-1]}\n")
    assert is_picture(tmp_path / "picture.png")


@pytest.mark.skipif(not os.environ.get("JLSTM_DATA"), reason="JLSTM_DATA names no folder with mnist.npz")
@pytest.mark.loose
@pytest.mark.slow
def test_training_on_mnist_runs(training, tmp_path, capsys, monkeypatch):
    """Images of another size than the digits' work: twenty steps are better than chance."""
    shortened = lambda dataset: dataset._replace(test=training.Split(*(part[:1000] for part in dataset.test)))
    monkeypatch.setattr(training, "mnist", lambda folder, load=training.mnist: shortened(load(folder)))
    training.main(training.MnistOptions(data_dir=os.environ["JLSTM_DATA"], steps=20, out=tmp_path))
    assert float(re.search(r"\nTest accuracy: ([01]\.\d{4})\n$", capsys.readouterr().out)[1]) > 0.2


@pytest.mark.slow
@pytest.mark.loose
def test_permuted_pixels_come_one_a_step(training, tmp_path, capsys):
    """An 8 × 8 image is 64 steps of one pixel, in one order for all images, and the network learns."""
    dataset = training.digits()
    permuted = training.permute(dataset)
    assert permuted.test.images.shape == (360, 64, 1)
    assert not np.array_equal(permuted.test.images[0].ravel(), dataset.test.images[0].ravel())
    for original, after in zip(dataset.train.images[:5], permuted.train.images[:5], strict=True):
        assert sorted(original.ravel()) == sorted(after.ravel())
    pixels = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    permuted_pixels = training.permute(training.Dataset(*(training.Split(pixels, np.zeros(1, np.int32)) for _ in range(2))))
    np.testing.assert_array_equal(permuted_pixels.train.images, permuted_pixels.test.images)
    training.main(training.MnistOptions(dataset="digits", permuted=True, steps=2, out=tmp_path))
    assert capsys.readouterr().out.splitlines()[-1].startswith("Test accuracy: 0.")


@pytest.mark.slow
@pytest.mark.loose
def test_a_finished_run_is_not_trained_again_when_resumed(training, tmp_path, capsys):
    """Resuming prints the same result from the checkpoint; without --resume the run starts anew."""
    options = training.MnistOptions(dataset="digits", steps=2, out=tmp_path)
    training.main(options)
    first = capsys.readouterr().out.splitlines()
    training.main(dataclasses.replace(options, resume=True))
    resumed = capsys.readouterr().out.splitlines()
    assert [line for line in first if not line.startswith("Step")] == resumed
    training.main(options)
    assert capsys.readouterr().out.splitlines() == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "error: --steps must be at least 1, got 0"),
        ({"epochs": 0}, "error: --epochs must be at least 1, got 0"),
        ({"coordinator": "localhost"}, "error: processes that are started by hand need --coordinator HOST:PORT"),
        ({"data_dir": "nowhere"}, "error: there is no mnist.npz in the folder nowhere: put it there"),
        ({}, "error: mnist.npz could not be downloaded from https://"),
    ],
)
def test_a_mistake_is_one_sentence(training, tmp_path, monkeypatch, options, message):
    """A mistake ends the script with one sentence. Without data and network it names the remedy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JLSTM_DATA", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(SystemExit, match=message), training.one_sentence():
        training.main(training.MnistOptions(**options))


@pytest.mark.slow
@pytest.mark.loose
@pytest.mark.xdist_group("tensorflow")
def test_the_demo_agrees_with_tensorflow(demo, training, tmp_path, monkeypatch, capsys):
    """One line with figures ends the output, and weights and picture are saved, in a third of the steps."""
    monkeypatch.setattr(training, "MnistOptions", partial(training.MnistOptions, steps=100))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        demo.main()
    printed, errors = capsys.readouterr()
    assert (stopped.value.code, errors) == (0, "")
    last = printed.splitlines()[-1]
    figures = (
        r"360 of 360 predictions, logits to \d\.\de-0\d and gradients to \d\.\de-0\d of their largest \(accuracy (0\.\d{4})\)"
    )
    match = re.fullmatch(rf"demo: jlstm and TensorFlow [\d.]+ agree: {figures}", last)
    assert match, last
    assert float(match[1]) > 0.8
    assert is_picture(tmp_path / "results/demo/picture.png")


@pytest.mark.loose
@pytest.mark.xdist_group("tensorflow")
def test_the_demo_fails_when_tensorflow_has_other_weights(demo, training, tmp_path, monkeypatch, capsys):
    """With gates i and f swapped on TensorFlow's side the demo says so and exits with 1."""
    import keras

    def swapped(model, weights, load=keras.Model.set_weights):
        i, f, g, o = np.split(weights[2], 4, axis=1)
        load(model, [*weights[:2], np.concatenate([f, i, g, o], axis=1), *weights[3:]])

    def untrained(options):
        options.out.mkdir(parents=True)
        jlstm.save(options.out / "weights.safetensors", params)

    params = jax.jit(training.Classifier().init)(jax.random.key(0), training.digits().test.images[:1])["params"]
    monkeypatch.setattr(keras.Model, "set_weights", swapped)
    monkeypatch.setattr(training, "main", untrained)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        demo.main()
    assert stopped.value.code == 1
    assert re.match(r"demo: jlstm and TensorFlow [\d.]+ DISAGREE: ", capsys.readouterr().out.splitlines()[-1])


def test_the_demo_without_tensorflow_is_one_sentence(tmp_path):
    """The demo says that TensorFlow is missing before it trains."""
    result = run(DEMO, cwd=tmp_path, setup="sys.modules['tensorflow'] = None")
    assert result.returncode == 1
    assert result.stdout == ""
    message = r"""error: peer 'keras' cannot be imported \(.*tensorflow.*\): pip install "jlstm\[parity\]"\n"""
    assert re.fullmatch(message, result.stderr)


def mutated(arrays: dict[str, np.ndarray], name: str, change: float) -> dict[str, np.ndarray]:
    """Return the arrays with one number of one array changed by a share of that array's largest number."""
    array = arrays[name].copy()
    array.flat[3] += change * np.abs(array).max()
    return arrays | {name: array}


@pytest.mark.parametrize(
    "name", ["logits", "last h", "last c", "gradient: images", "gradient: lstm.bias", "gradient: classify.bias"]
)
@pytest.mark.parametrize(("change", "agree"), [(0, True), (3e-7, True), (1e-4, False), (-1, False), (np.nan, False)])
@pytest.mark.parametrize("side", ["ours", "theirs", "both"])
def test_one_wrong_number_on_either_side_is_noticed(demo, name, change, agree, side):
    """Rounding passes; an error of a ten-thousandth of the largest value does not, nor does the same error on both sides."""
    draw = np.random.default_rng(5)
    names = ("logits", "last h", "last c", "gradient: images", *(f"gradient: {weight}" for weight in demo.WEIGHTS))
    right = {quantity: draw.normal(size=(7, 10)) for quantity in names}
    wrong = mutated(right, name, change)
    ours, theirs = (wrong if side in (current_side, "both") else right for current_side in ("ours", "theirs"))
    rows = demo.compare(ours, theirs, right)
    passed, sentence = demo.judge(rows, ours, theirs, labels=right["logits"].argmax(-1))
    assert passed == agree
    assert ("DISAGREE" in sentence) != agree


def test_one_other_prediction_is_noticed(demo):
    """Another predicted digit is noticed, however close the two logits are."""
    logits = np.zeros((4, 10)) + np.eye(10)[:4]
    logits[2, 5] = 1 + 1e-9
    arrays = {"logits": logits, "gradient: images": np.ones((4, 8, 8))}
    tied = arrays | {"logits": np.where(logits == logits[2, 5], 1 - 1e-9, logits)}
    passed, sentence = demo.judge(demo.compare(arrays, tied, arrays), arrays, tied, labels=np.arange(4))
    assert not passed
    assert "DISAGREE: 3 of 4 predictions" in sentence
